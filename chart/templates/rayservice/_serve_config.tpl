{{/*
serveConfigV2: one Serve application for each model. What sits in `args` restarts its model when edited; what sits in
`deployments` is applied in place, but for ray_actor_options and max_replicas_per_node. Serve keeps a key that goes
missing, so every key stands here every time, null included. No secrets: the operator logs this text.
*/}}
{{- define "hive.serveConfig" -}}
{{- $workers := include "hive.workers" . | fromJson -}}
{{- $applications := list -}}
{{- range $name, $entry := .Values.models -}}
  {{- $model := include "hive.model" (dict "root" $ "entry" $entry) | fromJson -}}
  {{- if or $model.autoscaling (gt (int $model.replicas) 0) -}}
    {{- $vramMib := include "hive.quantity" (dict "quantity" $model.vram "unit" "Mi") | int64 -}}
    {{- $args := dict
      "name" $name
      "aliases" $model.aliases
      "source" $model.source
      "adapters" $model.adapters
      "vramMib" $vramMib
      "maxModelLen" $model.maxModelLen
      "maxNumSeqs" $model.maxNumSeqs
      "tensorParallel" $model.tensorParallel
      "chatTemplate" $model.chatTemplate
      "defaults" $model.defaults
      "engine" $model.engine
    -}}
    {{- $memory := $model.memory -}}
    {{- if $memory -}}
      {{- $memory = include "hive.quantity" (dict "quantity" $memory "unit" "") | int64 -}}
    {{- end -}}
    {{- $autoscaling := $model.autoscaling -}}
    {{- $replicas := empty $autoscaling | ternary $model.replicas nil -}}
    {{- if $autoscaling -}}
      {{- $autoscaling = dict
        "min_replicas" $autoscaling.min
        "max_replicas" $autoscaling.max
        "target_ongoing_requests" ($autoscaling.targetOngoingRequests | default 16)
      -}}
    {{- end -}}
    {{- $several := gt (get $workers (toString $model.tensorParallel) | default 0 | int) 1 -}}
    {{- /* Ray would give an actor as many threads as CPUs of its own kind, which replicas have none of. */}}
    {{- $deployment := dict
      "name" "Model"
      "num_replicas" $replicas
      "autoscaling_config" $autoscaling
      "max_ongoing_requests" $model.maxOngoingRequests
      "max_queued_requests" -1
      "max_replicas_per_node" (ternary 1 100 (and $model.spread $several))
      "user_config" nil
      "graceful_shutdown_wait_loop_s" 2
      "graceful_shutdown_timeout_s" 60
      "health_check_period_s" 5
      "health_check_timeout_s" 30
      "ray_actor_options" (dict
        "num_cpus" 0
        "num_gpus" 0
        "memory" $memory
        "resources" (dict (include "hive.vramResource" $model.tensorParallel) $vramMib (include "hive.cpuResource" .) $model.cpu)
        "accelerator_type" nil
        "runtime_env" (dict "env_vars" (merge $model.env (dict "OMP_NUM_THREADS" (max 1 (int $model.cpu) | toString))))
      )
    -}}
    {{- $applications = append $applications (dict
      "name" $name
      "route_prefix" (printf "/models/%s" $name)
      "import_path" "serve_app.model:build"
      "runtime_env" dict
      "args" $args
      "deployments" (list $deployment)
    ) -}}
  {{- end -}}
{{- end -}}
{{- dict
  "proxy_location" .Values.ray.http.proxyLocation
  "http_options" (dict "host" .Values.ray.http.host "port" .Values.ports.serve "request_timeout_s" nil)
  "applications" $applications
| toYaml -}}
{{- end }}
