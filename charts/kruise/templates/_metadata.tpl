{{- /* What charts/kruise and charts/kruise-crds have in common, with _crds.tpl; hack/genchart copies both files. */}}
{{- define "kruise.labels" -}}
app.kubernetes.io/name: kruise
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- end }}

{{- /* Annotations for whoever injects the CA into webhook configurations and CRDs. */}}
{{- define "kruise.injectionAnnotations" -}}
{{- $annotations := deepCopy (.Values.externalCerts.annotations | default dict) }}
{{- if .Values.certManager.enabled }}
{{- $_ := set $annotations "cert-manager.io/inject-ca-from" (printf "%s/kruise-serving-cert" .Values.installation.namespace) }}
{{- end }}
{{- with $annotations }}{{ toYaml . }}{{- end }}
{{- end }}
