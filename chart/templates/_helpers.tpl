{{/* Names end at 47 characters: KubeRay's limit for a RayService. */}}
{{- define "hive.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $full .Values.fullnameOverride | trunc 47 | trimSuffix "-" -}}
{{- end }}

{{- define "hive.componentName" -}}
{{- printf "%s-%s" (include "hive.fullname" .root) .component | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{/* Labels of an object. Never on Ray pods: what changes with a release there would ask for a new cluster. */}}
{{- define "hive.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{ include "hive.selectorLabels" . }}
{{- end }}

{{- define "hive.selectorLabels" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "hive.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag }}
{{- end }}

{{/* The Ray resource that counts MiB on workers with so many GPUs. serve_app/worker.py registers it. */}}
{{- define "hive.vramResource" -}}
{{ ternary "vram_mib" (printf "vram_mib_x%d" (int .)) (eq (int .) 1) }}
{{- end }}

{{/* The Ray resource that counts host CPUs for replicas. Ray's own CPU is what a task or a job's driver takes when it says
nothing, so workers with GPUs have none of it: jobs run where no model does. */}}
{{- define "hive.cpuResource" -}}
model_cpus
{{- end }}

{{/* Whole CPUs of one worker group's pods, as KubeRay counts them; empty where the group says nothing. */}}
{{- define "hive.cpus" -}}
{{- with .resources.limits.cpu | default .resources.requests.cpu -}}
{{- $said := toString . -}}
{{- hasSuffix "m" $said | ternary (divf (trimSuffix "m" $said | float64) 1000) (float64 $said) | ceil | int -}}
{{- end -}}
{{- end }}

{{/* Fewest and most workers of one group, as JSON. */}}
{{- define "hive.bounds" -}}
{{- $replicas := hasKey . "replicas" | ternary .replicas 1 -}}
{{- pick (.autoscaling | default (dict "min" $replicas "max" $replicas)) "min" "max" | toJson -}}
{{- end }}

{{/* Not empty where Ray's autoscaler runs, because a worker group asks for it. */}}
{{- define "hive.autoscaled" -}}
{{- range .Values.workerGroups -}}
  {{- if .autoscaling -}}true{{- end -}}
{{- end -}}
{{- end }}

{{/* Number of workers with GPUs at most by their gpusPerWorker, as JSON: {"1": 4, "2": 1}. */}}
{{- define "hive.workers" -}}
{{- $workers := dict -}}
{{- range .Values.workerGroups -}}
  {{- $most := (include "hive.bounds" . | fromJson).max | int -}}
  {{- if and (gt $most 0) .gpusPerWorker -}}
    {{- $count := get $workers (toString .gpusPerWorker) | default 0 | int | add $most -}}
    {{- $_ := set $workers (toString .gpusPerWorker) $count -}}
  {{- end -}}
{{- end -}}
{{- toJson $workers -}}
{{- end }}

{{/* One entry of `models` with all its keys, as JSON: (dict "root" $ "entry" $entry). An entry's replicas win over the
autoscaling of modelDefaults, so that replicas: 0 turns any model off. */}}
{{- define "hive.model" -}}
{{- $entry := .entry -}}
{{- $shared := .root.Values.modelDefaults -}}
{{- /* Not merge: it takes false and 0 for "not said". Not the keys of modelDefaults: Helm drops those that are null. */ -}}
{{- $model := dict "source" $entry.source "vram" $entry.vram -}}
{{- range list "replicas" "autoscaling" "maxModelLen" "maxNumSeqs" "tensorParallel" "chatTemplate" "cpu" "memory" "spread" "maxOngoingRequests" "engine" "env" -}}
  {{- $_ := set $model . (index (hasKey $entry . | ternary $entry $shared) .) -}}
{{- end -}}
{{- $_ := set $model "aliases" ($entry.aliases | default list) -}}
{{- $_ := set $model "adapters" ($entry.adapters | default dict) -}}
{{- if and (hasKey $entry "replicas") (not (hasKey $entry "autoscaling")) -}}
  {{- $_ := set $model "autoscaling" nil -}}
{{- end -}}
{{- $defaults := dict -}}
{{- $said := $entry.defaults | default dict -}}
{{- range list "maxTokens" "temperature" "topP" "truncateInput" -}}
  {{- $_ := set $defaults . (index (hasKey $said . | ternary $said $shared.defaults) .) -}}
{{- end -}}
{{- $_ := set $model "defaults" $defaults -}}
{{- toJson $model -}}
{{- end }}

{{/* Bytes, KiB or MiB of a quantity like 22Gi or 512Mi: (dict "quantity" "22Gi" "unit" "Mi"). */}}
{{- define "hive.quantity" -}}
{{- $factors := dict "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "" 1 -}}
{{- $number := regexFind "^[0-9]+" .quantity | int64 -}}
{{- $unit := regexFind "[KMGT]i$" .quantity -}}
{{- div (mul $number (get $factors $unit)) (get $factors .unit) -}}
{{- end }}

{{/* Python files of one package, and what it shows in a browser, as a ConfigMap's data. */}}
{{- define "hive.codeData" -}}
{{- range $path, $_ := .root.Files.Glob (printf "files/%s/*.{py,html,css,js}" .package) }}
{{ base $path }}: |
  {{- $.root.Files.Get $path | nindent 2 }}
{{- end }}
{{- end }}

{{- define "hive.codeComponent" -}}
{{ replace "_" "-" . }}-code
{{- end }}

{{/* The packages as volumes: (dict "root" $ "packages" (list "serve_app")). Not one projected volume: it would have to
name every file, and a new file would then be missing in the pods of a running cluster. */}}
{{- define "hive.codeVolumes" -}}
{{- range .root.Values.image.hasCode | default false | ternary list .packages }}
{{- $component := include "hive.codeComponent" . }}
- name: {{ $component }}
  configMap:
    name: {{ include "hive.componentName" (dict "root" $.root "component" $component) }}
{{- end }}
{{- end }}

{{- define "hive.codeMounts" -}}
{{- range .root.Values.image.hasCode | default false | ternary list .packages }}
- {name: {{ include "hive.codeComponent" . }}, mountPath: /opt/hive/{{ . }}, readOnly: true}
{{- end }}
{{- end }}

{{/* What every container with Hive's code has in common. */}}
{{- define "hive.codeEnv" -}}
- name: PYTHONPATH
  value: /opt/hive
- name: HIVE_AGENT_SOCKET
  value: /run/hive/agent.sock
{{- end }}

{{- define "hive.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* Where pods of the cluster reach the gateway. */}}
{{- define "hive.gatewayUrl" -}}
http://{{ include "hive.componentName" (dict "root" . "component" "gateway") }}.{{ .Release.Namespace }}{{ eq (int .Values.gateway.service.port) 80 | ternary "" (printf ":%d" (int .Values.gateway.service.port)) }}
{{- end }}

{{/* The Service of Ray's head. */}}
{{- define "hive.headService" -}}
{{ eq .Values.ray.upgradeStrategy "None" | ternary (include "hive.componentName" (dict "root" . "component" "ray")) (printf "%s-head-svc" (include "hive.fullname" .)) }}
{{- end }}
