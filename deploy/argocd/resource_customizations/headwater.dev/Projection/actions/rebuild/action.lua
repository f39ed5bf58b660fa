-- Any other token asks for one more build of the same spec.
obj.spec.rebuildToken = "argocd-" .. os.date("!%Y-%m-%dT%H:%M:%SZ")
return obj
