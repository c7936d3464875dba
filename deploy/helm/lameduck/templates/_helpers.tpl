{{/* The release's name, with the chart's where it doesn't say so itself. A Service's name begins with a letter. */}}
{{- define "lameduck.name" -}}
{{- if regexMatch "^[0-9]" .Release.Name -}}
{{ printf "lameduck-%s" .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else if contains "lameduck" .Release.Name -}}
{{ .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-lameduck" .Release.Name | trunc 63 | trimSuffix "-" }}
{{- end -}}
{{- end -}}

{{/* What the Service and the Deployment select by; it never changes. */}}
{{- define "lameduck.selector" -}}
app.kubernetes.io/name: lameduck
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "lameduck.labels" -}}
{{ include "lameduck.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "lameduck.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "lameduck.account" -}}
{{- if .Values.serviceAccount.name -}}
{{ .Values.serviceAccount.name }}
{{- else if .Values.serviceAccount.create -}}
{{ include "lameduck.name" . }}
{{- else -}}
default
{{- end -}}
{{- end -}}

{{/* The Role in a namespace. Two releases of one name, in two namespaces, may have pools in the same third one. */}}
{{- define "lameduck.role" -}}
{{- $name := include "lameduck.name" .root -}}
{{- if eq .namespace .root.Release.Namespace -}}
{{ $name }}
{{- else -}}
{{ printf "%s-%s" $name .root.Release.Namespace }}
{{- end -}}
{{- end -}}

{{/* What lameduck would refuse is refused before anything is installed. */}}
{{- define "lameduck.check" -}}
{{- if le (int .Values.server.deadlineSeconds) (int .Values.server.lameDuckSeconds) }}
{{- fail "server.deadlineSeconds must be longer than server.lameDuckSeconds: it counts from the same signal" }}
{{- end }}
{{- if not .Values.config }}
{{- if not .Values.pools }}
{{- fail "there is nothing in pools: requests would have nowhere to go" }}
{{- end }}
{{- $routed := contains "[[route]]" (.Values.extraConfig | default "") }}
{{- $names := dict }}
{{- range .Values.pools }}
{{- if hasKey $names .name }}
{{- fail (printf "there are two pools named %s" .name) }}
{{- end }}
{{- $_ := set $names .name true }}
{{- if and (gt (len $.Values.pools) 1) (not $routed) (not .hosts) (not .pathPrefix) }}
{{- fail (printf "which requests are for pool %s? Give it hosts or pathPrefix (`/` takes what is left), or write a [[route]] in extraConfig" .name) }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* lameduck.toml */}}
{{- define "lameduck.config" -}}
{{- if .Values.config -}}
{{ .Values.config }}
{{- else -}}
[server]
lame_duck = "{{ .Values.server.lameDuckSeconds }}s"
deadline = "{{ .Values.server.deadlineSeconds }}s"

[admin]
socket = "/run/lameduck/lameduck.sock"
http = ""
# For the kubelet and Prometheus, who come from outside.
probes = "0.0.0.0:9902"

[[listener]]
address = "0.0.0.0:8080"
{{- if .Values.tls.secretName }}

[[listener]]
address = "0.0.0.0:8443"

[listener.tls]
cert = "/etc/lameduck-tls/tls.crt"
key = "/etc/lameduck-tls/tls.key"
{{- end }}
{{- range .Values.pools }}

[[pool]]
name = {{ .name | toJson }}

[[pool.discovery]]
type = "kubernetes"
service = {{ .service | toJson }}
port = {{ if regexMatch "^[0-9]+$" (toString .port) }}{{ .port }}{{ else }}{{ .port | toJson }}{{ end }}
{{- if .namespace }}
namespace = {{ .namespace | toJson }}
{{- end }}
{{- if .healthPath }}

[pool.health]
path = {{ .healthPath | toJson }}
{{- end }}
{{- end }}
{{- range .Values.pools }}
{{- if or .hosts .pathPrefix }}

[[route]]
{{- if .hosts }}
host = {{ .hosts | toJson }}
{{- end }}
{{- if .pathPrefix }}
path_prefix = {{ .pathPrefix | toJson }}
{{- end }}
pool = {{ .name | toJson }}
{{- end }}
{{- end }}
{{- if .Values.extraConfig }}

{{ .Values.extraConfig }}
{{- end }}
{{- end -}}
{{- end -}}
