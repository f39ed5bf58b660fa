local state = obj.spec.state or "Running"
return {
  pause = {disabled = state == "Paused"},
  stop = {disabled = state == "Stopped"},
  resume = {disabled = state == "Running"},
}
