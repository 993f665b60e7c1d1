{{/*
Values that contradict each other: the release stops with a sentence. What one value may be is said
by values.schema.json.
*/}}
{{- define "llmjp.validate" -}}
{{- $values := .Values -}}
{{- with .Values.rbac -}}
{{- if and (eq .scope "namespaced") (not $values.watchNamespaces) -}}
{{- fail "rbac.scope namespaced needs watchNamespaces: the namespaces whose models are looked after" -}}
{{- end -}}
{{- end -}}
{{- if not (or .Values.serviceAccount.create .Values.serviceAccount.name) -}}
{{- fail "serviceAccount.create is false, so serviceAccount.name must name one that exists: the namespace's default one must not get the operator's rights" -}}
{{- end -}}
{{- include "llmjp.validateElection" . -}}
{{- include "llmjp.validateImages" . -}}
{{- include "llmjp.validateExtras" . -}}
{{- end -}}

{{- define "llmjp.validateElection" -}}
{{- with .Values.leaderElection -}}
{{- if not (and (lt (int .retrySeconds) (int .renewSeconds)) (lt (int .renewSeconds) (int .leaseSeconds))) -}}
{{- fail (printf "leaderElection: retrySeconds < renewSeconds < leaseSeconds must hold, found %v, %v and %v" .retrySeconds .renewSeconds .leaseSeconds) -}}
{{- end -}}
{{- if not .enabled -}}
{{- if gt (int $.Values.replicas) 1 -}}
{{- fail (printf "replicas %v needs leaderElection.enabled: without it all of them would act at once" $.Values.replicas) -}}
{{- end -}}
{{- if ne $.Values.updateStrategy "Recreate" -}}
{{- fail "leaderElection.enabled false needs updateStrategy Recreate: with RollingUpdate two operators act at once during every upgrade" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "llmjp.validateImages" -}}
{{- if not .Values.images.cpu -}}
{{- fail "images.cpu cannot be left out: every model's source is resolved with it" -}}
{{- end -}}
{{- range $flavour, $pair := .Values.images -}}
{{- range $part := list "builder" "runtime" -}}
{{- $image := index $pair $part | default dict -}}
{{- if not $image.repository -}}
{{- fail (printf "images.%s.%s.repository is missing" $flavour $part) -}}
{{- end -}}
{{- include "llmjp.validateImage" (list (printf "images.%s.%s" $flavour $part) (include "llmjp.image" (list $ $image $.Chart.AppVersion))) -}}
{{- end -}}
{{- end -}}
{{- include "llmjp.validateImage" (list "image" (include "llmjp.operatorImage" .)) -}}
{{- end -}}

{{/* Takes a list: where the image is given, and its reference. */}}
{{- define "llmjp.validateImage" -}}
{{- $reference := index . 1 -}}
{{- if not (regexMatch (include "llmjp.imageGrammar" .) $reference) -}}
{{- fail (printf "%s: %s is no reference to an image that a node could pull: registry is a host and a path without scheme, repository a path of small letters without tag, tag and digest stand apart" (index . 0) $reference) -}}
{{- end -}}
{{- end -}}

{{- define "llmjp.validateExtras" -}}
{{- range .Values.extraEnv -}}
{{- if has .name (list "LLMJP_NAMESPACE" "LLMJP_POD_NAME" "LLMJP_WATCH_NAMESPACES" "LLMJP_SETTINGS" "LLMJP_PORT") -}}
{{- fail (printf "extraEnv: %s is set by the chart itself" .name) -}}
{{- end -}}
{{- end -}}
{{- range .Values.extraVolumes -}}
{{- if has .name (list "settings" "tmp") -}}
{{- fail (printf "extraVolumes: the name %s is taken by the chart itself" .name) -}}
{{- end -}}
{{- end -}}
{{- $own := include "llmjp.selectorLabels" . | fromYaml -}}
{{- range $values := list "commonLabels" "podLabels" -}}
{{- range $label, $_ := index $.Values $values -}}
{{- if or (hasKey $own $label) (hasPrefix "app.kubernetes.io/" $label) (eq "helm.sh/chart" $label) -}}
{{- fail (printf "%s: %s is set by the chart itself" $values $label) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
