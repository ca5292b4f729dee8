{{/* Parts that the head's and the workers' pods share. Nothing here may change with a release of the chart. */}}

{{/* app.kubernetes.io/name belongs to KubeRay on these pods: its head Service selects by it. The digest tells which pods
were made from this template: KubeRay changes none that runs. (dict "root" $ "component" "head" "digest" "..."). */}}
{{- define "hive.podMetadata" -}}
metadata:
  labels:
    app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
    app.kubernetes.io/component: {{ .component }}
  annotations:
    hive/template: {{ quote .digest }}
    {{- with .annotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{/* What KubeRay makes more of Ray's pods from. */}}
{{- define "hive.clusterOptions" -}}
authOptions:
  mode: {{ .Values.ray.auth.mode }}
  {{- if eq .Values.ray.auth.mode "token" }}
  secretName: {{ include "hive.tokenSecret" . | quote }}
  {{- end }}
{{- with .Values.ray.gcsFaultTolerance.redisAddress }}
gcsFaultToleranceOptions:
  redisAddress: {{ . }}
  {{- with $.Values.ray.gcsFaultTolerance.passwordSecret }}
  redisPassword:
    valueFrom:
      secretKeyRef: {name: {{ . | quote }}, key: password}
  {{- end }}
{{- end }}
enableInTreeAutoscaling: {{ include "hive.autoscaled" . | empty | not }}
{{- if include "hive.autoscaled" . }}
autoscalerOptions:
  {{- include "hive.autoscaler" . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Digest of each pod template by its group's name in KubeRay, as JSON; the head's covers what all pods have of KubeRay. */}}
{{- define "hive.templates" -}}
{{- $digests := dict "headgroup" (print (include "hive.headSpec" .) (include "hive.clusterOptions" .) | sha256sum | trunc 16) -}}
{{- range $name, $group := .Values.workerGroups -}}
  {{- $spec := include "hive.workerSpec" (dict "root" $ "group" $group) -}}
  {{- $_ := set $digests $name (print $spec (include "hive.workerResources" $group) | sha256sum | trunc 16) -}}
{{- end -}}
{{- toJson $digests -}}
{{- end }}

{{/* Of a worker with GPUs: no CPU for Ray's own tasks (see hive.cpuResource), and what the autoscaler has to know before
there is one. The worker then says what it found. Not in rayStartParams: KubeRay refuses a group that has both. */}}
{{- define "hive.workerResources" -}}
{{- if .gpusPerWorker -}}
CPU: "0"
{{- end -}}
{{- if and .autoscaling .gpusPerWorker }}
{{ include "hive.cpuResource" . }}: {{ include "hive.cpus" . | quote }}
{{ include "hive.vramResource" .gpusPerWorker }}: {{ include "hive.quantity" (dict "quantity" .autoscaling.vram "unit" "Mi") | quote }}
{{- end -}}
{{- end }}

{{- define "hive.podSpec" -}}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
# KubeRay makes the account of the head's autoscaler, and no other process here talks to the API server.
automountServiceAccountToken: {{ .token | default false }}
# Longer than Ray takes to drain a node (30 s) and Serve to end what still answers.
terminationGracePeriodSeconds: 120
# The user of the image; its group owns the models volume.
securityContext:
  runAsNonRoot: true
  runAsUser: 1000
  runAsGroup: 100
  fsGroup: 100
  fsGroupChangePolicy: OnRootMismatch
{{- with .group.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .group.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .group.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .group.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .group.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumes:
  {{- include "hive.codeVolumes" (dict "root" .root "packages" (list "serve_app" "vram_agent")) | nindent 2 }}
  - name: models
    {{- toYaml (.root.Values.modelsVolume | default (dict "emptyDir" dict)) | nindent 4 }}
  # All that Ray, vLLM and their compilers write: logs, sockets, caches.
  - name: tmp
    emptyDir: {}
  {{- if .socket }}
  - name: agent
    hostPath: {path: /run/hive, type: DirectoryOrCreate}
  {{- end }}
  {{- with .group.shmSize }}
  # In place of KubeRay's own, which it leaves out where something is mounted there.
  - name: shm
    emptyDir: {medium: Memory, sizeLimit: {{ . }}}
  {{- end }}
  {{- with .root.Values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "hive.headSpec" -}}
{{ include "hive.podSpec" (dict "root" . "group" .Values.head "token" (include "hive.autoscaled" . | empty | not)) }}
containers:
  - name: ray-head
    {{- include "hive.container" (dict "root" . "group" .Values.head) | nindent 4 }}
    resources:
      {{- toYaml .Values.head.resources | nindent 6 }}
    # The operator finds each of these by its name.
    ports:
      - {name: gcs-server, containerPort: {{ .Values.ports.gcs }}}
      - {name: dashboard, containerPort: {{ .Values.ports.dashboard }}}
      - {name: client, containerPort: {{ .Values.ports.client }}}
      - {name: serve, containerPort: {{ .Values.ports.serve }}}
{{- end }}

{{/* A worker with GPUs starts Ray by Hive's entrypoint; one without, for jobs, as KubeRay does it. */}}
{{- define "hive.workerSpec" -}}
{{- $limits := deepCopy .group.resources.limits -}}
{{- $gpus := gt (int .group.gpusPerWorker) 0 -}}
{{- if and $gpus .group.gpuResource -}}
{{- $_ := set $limits .group.gpuResource (toString .group.gpusPerWorker) -}}
{{- end -}}
{{- $more := ternary (include "hive.modelEnv" .group) (include "hive.jobEnv" .root) $gpus | fromYamlArray -}}
{{- $worker := dict "root" .root "group" .group "socket" $gpus "env" $more -}}
{{ include "hive.podSpec" $worker }}
containers:
  - name: ray-worker
    {{- include "hive.container" $worker | nindent 4 }}
    {{- if $gpus }}
    command: [python, -m, serve_app.worker]
    {{- end }}
    # KubeRay's own probe asks for Serve's proxy too, which runs on the head alone: no worker would ever be ready. With
    # this one <name>-serve-svc lists workers that serve nothing; clients use the gateway.
    readinessProbe:
      httpGet: {path: /api/local_raylet_healthz, port: 52365}
      periodSeconds: 5
      timeoutSeconds: 5
    resources:
      requests:
        {{- toYaml .group.resources.requests | nindent 8 }}
      limits:
        {{- toYaml $limits | nindent 8 }}
{{- end }}

{{/* What a worker with GPUs has beside the rest. serve_app/worker.py registers the CPUs for replicas. */}}
{{- define "hive.modelEnv" -}}
# What a killed replica leaves behind is ended by its raylet; the VRAM agent is the second net. Nowhere else: Ray's processes
# then can't see how their children ended, and each job that fails would be said to have succeeded.
- name: RAY_kill_child_processes_on_worker_exit_with_raylet_subreaper
  value: "true"
{{- with include "hive.cpus" . }}
- name: HIVE_CPUS
  value: {{ . | quote }}
{{- end }}
{{- end }}

{{/* What a job finds the models by. The key is a reference: a job's own description can be read by whoever lists jobs. */}}
{{- define "hive.jobEnv" -}}
- name: OPENAI_BASE_URL
  value: {{ include "hive.gatewayUrl" . }}/v1
{{- with .Values.gateway.keysSecret }}
- name: OPENAI_API_KEY
  valueFrom:
    secretKeyRef: {name: {{ . | quote }}, key: jobs, optional: true}
{{- end }}
{{- end }}

{{/* KubeRay puts this container into the head pod, with the image of Ray's own. */}}
{{- define "hive.autoscaler" -}}
version: v2
idleTimeoutSeconds: {{ .Values.ray.autoscaler.idleTimeoutSeconds }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  runAsNonRoot: true
  readOnlyRootFilesystem: true
  {{- include "hive.containerSecurity" . | nindent 2 }}
env:
  - name: HOME
    value: /tmp
  - name: RAY_USAGE_STATS_ENABLED
    value: "0"
  {{- if eq .Values.ray.auth.mode "disabled" }}
  - name: RAY_AUTH_MODE
    value: disabled
  {{- end }}
  {{- with .Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
resources:
  {{- toYaml .Values.ray.autoscaler.resources | nindent 2 }}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "hive.container" -}}
image: {{ include "hive.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  readOnlyRootFilesystem: true
  {{- include "hive.containerSecurity" . | nindent 2 }}
{{- with .root.Values.ray.envFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
env:
  {{- include "hive.codeEnv" . | nindent 2 }}
  - name: HOME
    value: /tmp
  - name: HIVE_MODELS_DIR
    value: /models
  - name: HF_HOME
    value: /models/.huggingface
  # Each replica has an HTTP port of its own, where the gateway finds the engine's own HTTP surface.
  - name: RAY_SERVE_THROUGHPUT_OPTIMIZED
    value: "1"
  - name: RAY_SERVE_LLM_ENABLE_DIRECT_STREAMING
    value: "1"
  # Best-fit packing of replicas by the bytes that they need.
  - name: RAY_SERVE_USE_PACK_SCHEDULING_STRATEGY
    value: "1"
  - name: RAY_SERVE_HIGH_PRIORITY_CUSTOM_RESOURCES
    value: {{ include "hive.packedResources" .root | quote }}
  # A replica that goes away stays reachable so long, in seconds; the gateway has heard of it within two.
  - name: RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S
    value: "5"
  - name: RAY_USAGE_STATS_ENABLED
    value: "0"
  - name: VLLM_NO_USAGE_STATS
    value: "1"
  {{- if eq .root.Values.ray.auth.mode "disabled" }}
  - name: RAY_AUTH_MODE
    value: disabled
  {{- end }}
  {{- with concat (.env | default list) .root.Values.extraEnv (.group.env | default list) }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
volumeMounts:
  {{- include "hive.codeMounts" (dict "root" .root "packages" (list "serve_app" "vram_agent")) | nindent 2 }}
  - {name: models, mountPath: /models}
  - {name: tmp, mountPath: /tmp}
  {{- if .socket }}
  - {name: agent, mountPath: /run/hive}
  {{- end }}
  {{- if .group.shmSize }}
  - {name: shm, mountPath: /dev/shm}
  {{- end }}
  {{- with .root.Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* What replicas are packed by, the scarcest first: vram_mib, one more for each other number of GPUs that a worker group
has, and CPUs. */}}
{{- define "hive.packedResources" -}}
{{- $names := list -}}
{{- range .Values.workerGroups -}}
  {{- if .gpusPerWorker -}}
    {{- $names = append $names (include "hive.vramResource" .gpusPerWorker) -}}
  {{- end -}}
{{- end -}}
{{- append ($names | uniq | sortAlpha) (include "hive.cpuResource" .) | join "," -}}
{{- end }}
