{{/* The chart's name, or what the values put in its place. */}}
{{- define "llmjp.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Name of every object: 52 characters at most, so that suffixes fit into a label's value. */}}
{{- define "llmjp.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "llmjp.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "llmjp.selectorLabels" -}}
app.kubernetes.io/name: {{ include "llmjp.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "llmjp.labels" -}}
{{ include "llmjp.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: llmjp-serving
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "llmjp.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "llmjp.fullname" .) -}}
{{- end -}}

{{/*
An image's reference. Takes a list: the root, the image's values, the tag where they name none.
*/}}
{{- define "llmjp.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- with $image.registry | default $root.Values.registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{- $image.repository -}}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default (index . 2) }}{{ end -}}
{{- end -}}

{{/* What an image's reference may be (github.com/distribution/reference). */}}
{{- define "llmjp.imageGrammar" -}}
{{- $name := "[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?" -}}
{{- $host := printf "%s(?:\\.%s)*(?::[0-9]+)?" $name $name -}}
{{- $part := "[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*" -}}
{{- printf "^(?:%s/)?%s(?:/%s)*(?::[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(?:@sha256:[0-9a-f]{64})?$" $host $part $part -}}
{{- end -}}

{{- define "llmjp.operatorImage" -}}
{{- include "llmjp.image" (list . .Values.image .Chart.AppVersion) -}}
{{- end -}}

{{/* What the operator reads as settings.json. */}}
{{- define "llmjp.settings" -}}
{{- $root := . -}}
{{- $images := dict -}}
{{- range $flavour, $pair := .Values.images -}}
{{- $tag := printf "%s-%s" $root.Chart.AppVersion $flavour -}}
{{- $builder := include "llmjp.image" (list $root $pair.builder $tag) -}}
{{- $runtime := include "llmjp.image" (list $root $pair.runtime $tag) -}}
{{- $_ := set $images $flavour (dict "builder" $builder "runtime" $runtime) -}}
{{- end -}}
{{- $secrets := list -}}
{{- range .Values.imagePullSecrets }}{{ $secrets = append $secrets .name }}{{ end -}}
{{- $settings := dict
  "images" $images
  "imagePullPolicy" .Values.imagePullPolicy
  "imagePullSecrets" $secrets
  "network" .Values.network
  "tokenHosts" .Values.tokenHosts
  "podUsers" (dict "runAsUser" .Values.podSecurityContext.runAsUser "runAsGroup" .Values.podSecurityContext.runAsGroup "fsGroup" .Values.podSecurityContext.fsGroup)
  "leaderElection" .Values.leaderElection
  "logLevel" .Values.logLevel
  "resyncSeconds" .Values.resyncSeconds
  "upgradePolicy" .Values.upgradePolicy
  "upgradesAtOnce" .Values.upgradesAtOnce
-}}
{{- $settings | toPrettyJson -}}
{{- end -}}

{{/* Ends a scrape's settings that ServiceMonitor and PodMonitor share. */}}
{{- define "llmjp.scrape" -}}
path: /metrics
interval: {{ .interval }}
scrapeTimeout: {{ .scrapeTimeout }}
{{- with .metricRelabelings }}
metricRelabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
