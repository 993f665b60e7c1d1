{{/*
What the operator may do with models and with what it makes of them, wherever the models are. It
never reads a Secret: pods mount tokens, pull secrets and certificates.
*/}}
{{- define "llmjp.rules" -}}
- apiGroups: [serving.llmjp.dev]
  resources: [llmjpmodels]
  verbs: [get, list, watch]
- apiGroups: [serving.llmjp.dev]
  resources: [llmjpmodels/status]
  verbs: [get, patch]
- apiGroups: [apps]
  resources: [controllerrevisions, deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [configmaps, persistentvolumeclaims, serviceaccounts, services]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
- apiGroups: [""]
  resources: [pods/log]
  verbs: [get]
- apiGroups: [""]
  resources: [events]
  verbs: [get, list, create, patch]
{{- end -}}

{{/* A binding's end: the operator's ServiceAccount. Takes the root. */}}
{{- define "llmjp.subjects" -}}
subjects:
  - kind: ServiceAccount
    name: {{ include "llmjp.serviceAccount" . }}
    namespace: {{ .Release.Namespace }}
{{- end -}}

{{/* Name of cluster-wide objects of a release that is one of several. */}}
{{- define "llmjp.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "llmjp.fullname" .) -}}
{{- end -}}
