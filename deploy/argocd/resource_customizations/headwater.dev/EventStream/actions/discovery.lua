local state = obj.spec.state or "Running"
return {
  stop = {disabled = state == "Stopped"},
  resume = {disabled = state == "Running"},
}
