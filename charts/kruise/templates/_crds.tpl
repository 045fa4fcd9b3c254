{{- /* kruise.crds: the CustomResourceDefinitions; with .keep they survive the release (platform W19). */}}
{{- define "kruise.crds" }}
{{- range $path, $_ := .root.Files.Glob "files/crd/*.yaml" }}
{{- $crd := $.root.Files.Get $path | fromYaml }}
{{- $annotations := $crd.metadata.annotations | default dict }}
{{- if $.keep }}{{- $_ := set $annotations "helm.sh/resource-policy" "keep" }}{{- end }}
{{- if $crd.spec.conversion }}
{{- $_ := set $crd.spec.conversion.webhook.clientConfig.service "namespace" $.root.Values.installation.namespace }}
{{- /* A manager with WEBHOOK_HOST has made the address a URL; both at once are invalid. */}}
{{- with dig "spec" "conversion" "webhook" "clientConfig" "url" "" (lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" $crd.metadata.name) }}
{{- $_ := set $crd.spec.conversion.webhook "clientConfig" (dict "url" .) }}
{{- end }}
{{- $annotations = merge (include "kruise.injectionAnnotations" $.root | fromYaml) $annotations }}
{{- end }}
{{- $_ := set $crd.metadata "annotations" $annotations }}
{{- $_ := set $crd.metadata "labels" (include "kruise.labels" $.root | fromYaml) }}
---
{{ toYaml $crd }}
{{- end }}
{{- end }}
