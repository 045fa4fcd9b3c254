{{- define "kruise.namespace" -}}{{ .Values.installation.namespace }}{{- end }}
{{- define "kruise.daemonNamespace" -}}{{ .Values.daemon.namespace | default .Values.installation.namespace }}{{- end }}

{{- define "kruise.image" -}}
{{- with .Values.manager.image -}}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag | default (printf "v%s" $.Chart.AppVersion) }}{{ end }}
{{- end }}
{{- end }}

{{- define "kruise.hookImage" -}}
{{- if or .Values.helmHooks.image.repository .Values.helmHooks.image.tag -}}
{{ .Values.helmHooks.image.repository | default .Values.manager.image.repository }}:{{ .Values.helmHooks.image.tag | default .Values.manager.image.tag | default (printf "v%s" .Chart.AppVersion) }}
{{- else }}{{ include "kruise.image" . }}{{ end }}
{{- end }}

{{- define "kruise.imagePullSecrets" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
{{- range . }}
- name: {{ kindIs "string" . | ternary . (dig "name" "" (kindIs "string" . | ternary dict .)) | quote }}
{{- end }}
{{- end }}
{{- end }}

{{- /* What the processes that need no rights on their node have in common (Pod Security level restricted). */}}
{{- define "kruise.restrictedPod" -}}
runAsNonRoot: true
runAsUser: 65534
runAsGroup: 65534
fsGroup: 65534
seccompProfile: {type: RuntimeDefault}
{{- end }}
{{- define "kruise.restrictedContainer" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- /* Where replicas run; hooks go to the same nodes. */}}
{{- define "kruise.placement" -}}
{{- $tolerations := .Values.manager.tolerations }}
{{- if eq .Values.manager.nodePlacement "control-plane" }}
{{- $tolerations = append $tolerations (dict "key" "node-role.kubernetes.io/control-plane" "operator" "Exists" "effect" "NoSchedule") }}
{{- end }}
{{- with .Values.manager.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $tolerations }}
tolerations: {{- toYaml . | nindent 0 }}
{{- end }}
{{- end }}

{{- define "kruise.nodeAffinity" -}}
{{- $affinity := deepCopy (.Values.manager.nodeAffinity | default dict) }}
{{- if eq .Values.manager.nodePlacement "control-plane" }}
{{- $term := dict "weight" 100 "preference" (dict "matchExpressions" (list (dict "key" "node-role.kubernetes.io/control-plane" "operator" "Exists"))) }}
{{- $key := "preferredDuringSchedulingIgnoredDuringExecution" }}
{{- $_ := set $affinity $key (append (get $affinity $key | default list) $term) }}
{{- end }}
{{- with $affinity }}
nodeAffinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
