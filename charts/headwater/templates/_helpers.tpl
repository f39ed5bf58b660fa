{{- define "headwater.name" -}}
{{- if contains "headwater" .Release.Name }}{{ printf "%s-operator" .Release.Name | trunc 63 | trimSuffix "-" }}{{ else }}{{ printf "%s-headwater-operator" .Release.Name | trunc 63 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "headwater.selector" -}}
app.kubernetes.io/name: headwater-operator
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "headwater.labels" -}}
{{ include "headwater.selector" . }}
app.kubernetes.io/part-of: headwater
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "headwater.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* What the operator may do with resources, wherever it keeps them. */}}
{{- define "headwater.rules" -}}
- apiGroups: [headwater.dev]
  resources: [eventstreams, projections, sagas]
  verbs: [get, list, watch]
# The finalizer of those whose deletionPolicy is Delete, and nothing else of them.
- apiGroups: [headwater.dev]
  resources: [eventstreams, projections, sagas]
  verbs: [patch]
- apiGroups: [headwater.dev]
  resources: [eventstreams/status, projections/status, sagas/status]
  verbs: [patch]
# Owner references that block deletion need it, where that is enforced.
- apiGroups: [headwater.dev]
  resources: [eventstreams/finalizers, projections/finalizers, sagas/finalizers]
  verbs: [update]
# What is the resources' own goes with them, by owner references; what pods read is replaced, and deleted when none reads it any more.
- apiGroups: [""]
  resources: [secrets, serviceaccounts, services]
  verbs: [get, list, watch, create, patch]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
# They delete what a resource has kept.
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
# Of KEDA, which need not be there.
- apiGroups: [keda.sh]
  resources: [scaledobjects]
  verbs: [get, create, patch, delete]
{{- end }}
