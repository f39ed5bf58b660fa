-- How an EventStream, a Projection or a Saga stands, by the conditions that the operator keeps. What is being deleted, Argo CD sees itself.
local status = obj.status or {}

local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end

local function holds(name)
  return conditions[name] ~= nil and conditions[name].status == "True"
end

local function as(health, name)
  return {status = health, message = conditions[name].message}
end

if conditions.Ready == nil then
  return {status = "Progressing", message = "the operator has not seen it yet"}
end
if status.observedGeneration ~= obj.metadata.generation then
  return {status = "Progressing", message = "the operator has not seen the newest spec yet"}
end
if holds("Stalled") then
  return as("Degraded", "Stalled")
end
if holds("NeedsAttention") then
  return as("Degraded", "NeedsAttention")
end
if holds("ReconciliationPaused") then
  return as("Suspended", "ReconciliationPaused")
end
if holds("Reconciling") then
  return as("Progressing", "Reconciling")
end
if not holds("Ready") then
  -- Nothing is under way that could mend it.
  return as("Degraded", "Ready")
end
if conditions.Ready.reason == "Paused" or conditions.Ready.reason == "Stopped" then
  return as("Suspended", "Ready")
end
-- What answers is healthy, also while its successor is built or waits to be promoted: the message says so.
if holds("Rebuilding") then
  return as("Healthy", "Rebuilding")
end
return as("Healthy", "Ready")
