{{/* The release's name, with the chart's where it doesn't say so itself. */}}
{{- define "lameduck.name" -}}
{{- if contains "lameduck" .Release.Name -}}
{{ .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-lameduck" .Release.Name | trunc 63 | trimSuffix "-" }}
{{- end -}}
{{- end -}}

{{/* What the Service and the Deployment select by; it never changes. */}}
{{- define "lameduck.selector" -}}
app.kubernetes.io/name: lameduck
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "lameduck.labels" -}}
{{ include "lameduck.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
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
port = {{ .port | toJson }}
{{- if .namespace }}
namespace = {{ .namespace | toJson }}
{{- end }}
{{- if .healthPath }}

[pool.health]
path = {{ .healthPath | toJson }}
{{- end }}
{{- end }}
{{- if .Values.extraConfig }}

{{ .Values.extraConfig }}
{{- end }}
{{- end -}}
{{- end -}}
