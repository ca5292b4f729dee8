{{/*
Envoy's configuration, in two files: what the process starts with, and the routes, which it takes over while it runs
(when models or clients change). A pod and a local Hive run the same files: every path is relative to the
working directory, which has config/ (these files), run/ (what `gateway.discovery` writes, and sockets) and keys/.
*/}}

{{/* Paths of the inference API. Everything else that vLLM serves (its own administration, /metrics) is not reachable. */}}
{{- define "hive.envoy.api" -}}
v1/(chat/completions|completions|responses|embeddings|messages|messages/count_tokens|audio/transcriptions|audio/translations|rerank|score|classify|pooling|tokenize|detokenize)|v2/(rerank|embed)|rerank|score|classify|pooling|tokenize|detokenize
{{- end }}

{{/* Paths of the page, which `gateway.page` answers. */}}
{{- define "hive.envoy.page" -}}
{{- .Values.gateway.page | ternary (list "/" "/page.css" "/page.js" "/status") list | toJson -}}
{{- end }}

{{/* Names that stand for each model that is on, as JSON: {"qwen3-8b": ["qwen3-8b", "gpt-4o"]}. */}}
{{- define "hive.names" -}}
{{- $names := dict -}}
{{- range $name, $entry := .Values.models -}}
  {{- $model := include "hive.model" (dict "root" $ "entry" $entry) | fromJson -}}
  {{- if or $model.autoscaling (gt (int $model.replicas) 0) -}}
    {{- $_ := set $names $name (prepend (concat $model.aliases (keys $model.adapters | sortAlpha)) $name) -}}
  {{- end -}}
{{- end -}}
{{- toJson $names -}}
{{- end }}

{{/* An error in OpenAI's form: (dict "message" "..." "type" "..." "code" "..."). */}}
{{- define "hive.envoy.error" -}}
{{- dict "error" (dict "message" .message "type" .type "param" .param "code" .code) | toJson -}}
{{- end }}

{{- define "hive.envoy.bootstrap" -}}
admin:
  address: {pipe: {path: run/admin.sock, mode: 384}}
overload_manager:
  resource_monitors:
    - name: envoy.resource_monitors.global_downstream_max_connections
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig
        max_active_downstream_connections: 10000
node: {id: gateway, cluster: gateway}
layered_runtime:
  layers:
    - name: static
      # The expression with the API's paths is longer than Envoy takes unasked.
      static_layer: {re2: {max_program_size: {error_level: 1000}}}
stats_config:
  histogram_bucket_settings:
    - match: {prefix: hive}
      buckets: [1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 600000]
static_resources:
  listeners:
    - name: gateway
      address: {socket_address: {address: {{ .Values.gateway.host | quote }}, port_value: {{ .Values.ports.gateway }}}}
      per_connection_buffer_limit_bytes: {{ mul (int .Values.gateway.maxBodyMib) 1048576 }}
      filter_chains:
        - filters:
            - name: http
              typed_config:
                {{- include "hive.envoy.http" . | nindent 16 }}
    # For Prometheus and probes, from Envoy's administration, which itself nobody reaches over the network.
    - name: metrics
      address: {socket_address: {address: {{ .Values.gateway.host | quote }}, port_value: {{ .Values.ports.gatewayMetrics }}}}
      filter_chains:
        - filters:
            - name: http
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: metrics
                http_filters:
                  - name: router
                    typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
                route_config:
                  virtual_hosts:
                    - name: metrics
                      domains: ["*"]
                      routes:
                        - match: {path: /metrics}
                          route: {cluster: _admin, prefix_rewrite: /stats/prometheus}
                        - match: {path: /ready}
                          route: {cluster: _admin}
                        - match: {path: /idle}
                          route: {cluster: _discovery, timeout: 0s}
  clusters:
    # The replicas of all models; a route takes those of its model. They are one cluster because Envoy watches the file
    # of each with an inotify instance of its own, and Linux gives a user 128.
    - name: replicas
      type: EDS
      eds_cluster_config:
        eds_config:
          path_config_source: {path: run/replicas.json, watched_directory: {path: run}}
      connect_timeout: 2s
      lb_policy: LEAST_REQUEST
      lb_subset_config:
        subset_selectors: [{keys: [model]}]
        fallback_policy: NO_FALLBACK
      common_lb_config: {healthy_panic_threshold: {value: 0}}
      # A replica that can't be reached is left out for a while; what it answers is its own business.
      outlier_detection:
        split_external_local_origin_errors: true
        consecutive_local_origin_failure: 2
        enforcing_consecutive_5xx: 0
        enforcing_consecutive_gateway_failure: 0
        enforcing_success_rate: 0
        enforcing_local_origin_success_rate: 0
        base_ejection_time: 2s
        max_ejection_percent: 100
      circuit_breakers:
        thresholds: [{max_connections: 100000, max_pending_requests: 100000, max_requests: 100000, max_retries: 100}]
      typed_extension_protocol_options:
        envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
          "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
          explicit_http_config: {http_protocol_options: {}}
          # Less than the five seconds that a replica keeps an idle connection, so that none is closed as it is used.
          common_http_protocol_options: {idle_timeout: 3s}
    - name: _admin
      load_assignment:
        cluster_name: _admin
        endpoints: [{lb_endpoints: [{endpoint: {address: {pipe: {path: run/admin.sock}}}}]}]
    - name: _discovery
      load_assignment:
        cluster_name: _discovery
        endpoints: [{lb_endpoints: [{endpoint: {address: {pipe: {path: run/discovery.sock}}}}]}]
{{- end }}

{{- define "hive.envoy.http" -}}
"@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
stat_prefix: gateway
server_header_transformation: PASS_THROUGH
use_remote_address: true
normalize_path: true
merge_slashes: true
# Names of models may have slashes, and clients escape them.
path_with_escaped_slashes_action: UNESCAPE_AND_FORWARD
max_request_headers_kb: 32
# Slow clients: headers, then the whole request, must arrive in time. Answers may take as long as they move.
request_headers_timeout: 10s
request_timeout: 120s
stream_idle_timeout: {{ int .Values.gateway.idleTimeoutSeconds }}s
common_http_protocol_options: {idle_timeout: 3600s}
http2_protocol_options: {max_concurrent_streams: 128, initial_stream_window_size: 65536, initial_connection_window_size: 1048576}
delayed_close_timeout: 1s
# What only this gateway may say to a replica.
early_header_mutation_extensions:
  - name: strip
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation
      mutations:
        {{- range list "x-hive-client" "x-request-timeout-seconds" "x-request-disconnect-disabled" "serve-multiplexed-model-id" "serve_multiplexed_model_id" }}
        - {remove: {{ . }}}
        {{- end }}
        - {remove_on_match: {key_matcher: {prefix: x-envoy-}}}
rds:
  route_config_name: gateway
  config_source:
    path_config_source: {path: config/routes.yaml, watched_directory: {path: config}}
http_filters:
  - name: health
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.filters.http.health_check.v3.HealthCheck
      pass_through_mode: false
      headers: [{name: ":path", string_match: {exact: /healthz}}]
  {{- if .Values.gateway.keysSecret }}
  # Who asks. The keys come from `gateway.discovery`, which reads them anew when the Secret changes.
  - name: keys
    config_discovery:
      config_source:
        path_config_source: {path: run/keys.json, watched_directory: {path: run}}
      type_urls: [type.googleapis.com/envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuth]
  {{- end }}
  # How often: a bucket for each client with a limit, filled again one request at a time.
  - name: limits
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
      stat_prefix: clients
      filter_enabled: {default_value: {numerator: 100}}
      filter_enforced: {default_value: {numerator: 100}}
      enable_x_ratelimit_headers: DRAFT_VERSION_03
      rate_limits:
        - actions: [{request_headers: {header_name: x-hive-client, descriptor_key: client}}]
      descriptors:
        {{- range $client, $may := .Values.gateway.clients }}
        {{- with $may.requestsPerMinute }}
        - entries: [{key: client, value: {{ $client | quote }}}]
          token_bucket: {max_tokens: {{ int . }}, tokens_per_fill: {{ int . }}, fill_interval: 60s}
        {{- end }}
        {{- end }}
  # What model is asked for: from a form here, from JSON in the next one.
  - name: form
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua
      default_source_code:
        inline_string: |
          {{- .Files.Get "files/gateway/form.lua" | nindent 10 }}
  - name: json
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.filters.http.json_to_metadata.v3.JsonToMetadata
      request_rules:
        allow_content_types_regex: &json {regex: "application/json *(;.*)?"}
        rules:
          - selectors: [{key: model}]
            on_present: {metadata_namespace: hive, key: model}
  # What an answer cost: from its JSON, whole, or from the events of its stream as they pass. Answers of the pooling
  # endpoints are left alone, since a batch of embeddings may be larger than what may be kept here.
  - name: usage
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.common.matching.v3.ExtensionWithMatcher
      extension_config:
        name: usage
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.http.json_to_metadata.v3.JsonToMetadata
          response_rules:
            allow_content_types_regex: *json
            rules:
              {{- include "hive.envoy.usage" "{\"selectors\": %s, \"on_present\": %s}" | nindent 14 }}
      xds_matcher:
        matcher_list:
          matchers:
            - predicate:
                not_matcher:
                  single_predicate:
                    input:
                      name: path
                      typed_config: {"@type": type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput, header_name: ":path"}
                    value_match: {safe_regex: {google_re2: {}, regex: ".*/v1/(chat/completions|completions|responses|messages).*"}}
              on_match:
                action:
                  name: skip
                  typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.common.matcher.action.v3.SkipFilter}
  - name: stream
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.filters.http.sse_to_metadata.v3.SseToMetadata
      response_rules:
        max_event_size: 1048576
        content_parser:
          name: envoy.content_parsers.json
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.content_parsers.json.v3.JsonContentParser
            rules:
              {{- include "hive.envoy.usage" "{\"rule\": {\"selectors\": %s, \"on_present\": %s}}" | nindent 14 }}
  # Which models this client may use: rules of its own for each route.
  - name: envoy.filters.http.rbac
    typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC}
  - name: router
    typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
# What this gateway answers itself has OpenAI's form.
local_reply_config:
  mappers:
    {{- include "hive.envoy.reply" (dict "status" 401 "type" "authentication_error" "code" "invalid_api_key"
      "message" "There is no such API key. Send yours as Authorization: Bearer KEY") | nindent 4 }}
    {{- include "hive.envoy.reply" (dict "status" 403 "type" "permission_error" "code" "model_not_allowed"
      "message" "The client %REQ(X-HIVE-CLIENT)% may not use the model %ROUTE_NAME%") | nindent 4 }}
    {{- include "hive.envoy.reply" (dict "status" 413 "type" "invalid_request_error" "code" "request_too_large"
      "message" (printf "The request is larger than the %d MiB that are taken here" (int .Values.gateway.maxBodyMib))) | nindent 4 }}
    {{- range $client, $may := .Values.gateway.clients }}
    {{- with $may.requestsPerMinute }}
    {{- include "hive.envoy.reply" (dict "status" 429 "client" $client "type" "rate_limit_error" "code" "rate_limit_exceeded"
      "header" (list "retry-after" (div (add 60 (sub (int .) 1)) (int .))) "message" (printf "The client %s may ask %d times in a minute" $client (int .))) | nindent 4 }}
    {{- end }}
    {{- end }}
    {{- include "hive.envoy.reply" (dict "status" 408 "type" "invalid_request_error" "code" "request_timeout"
      "message" "The request did not arrive whole in time") | nindent 4 }}
    {{- include "hive.envoy.reply" (dict "status" 431 "type" "invalid_request_error" "code" "headers_too_large"
      "message" "The headers of the request are larger than 32 KiB") | nindent 4 }}
    {{- include "hive.envoy.reply" (dict "status" 504 "type" "server_error" "code" "model_timeout" "header" (list "x-should-retry" "false")
      "message" (printf "%%ROUTE_NAME%% has sent nothing for %d seconds" (int .Values.gateway.idleTimeoutSeconds))) | nindent 4 }}
    {{- include "hive.envoy.reply" (dict "flags" (list "UC" "LR" "UR") "answer" 502 "type" "server_error" "code" "replica_died" "header" (list "x-should-retry" "false")
      "message" "The replica of %ROUTE_NAME% that had this request ended before it answered. It may be sent again") | nindent 4 }}
    {{- include "hive.envoy.reply" (dict "status" 503 "type" "server_error" "code" "model_not_ready" "header" (list "retry-after" 5)
      "message" "%ROUTE_NAME% has no replica that can answer now: it starts, or is being replaced. Try again in a few seconds") | nindent 4 }}
access_log:
  - name: log
    {{- if .Values.gateway.page }}
    # Asked every second by everybody who looks at the page.
    filter: &asked {header_filter: {header: {name: ":path", string_match: {exact: /status}, invert_match: true}}}
    {{- end }}
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog
      log_format:
        json_format:
          time: "%START_TIME%"
          client: "%REQ(X-HIVE-CLIENT)%"
          method: "%REQ(:METHOD)%"
          path: "%PATH(NQ:ORIG_OR_PATH)%"
          asked: "%DYNAMIC_METADATA(hive:model)%"
          model: "%ROUTE_NAME%"
          status: "%RESPONSE_CODE%"
          details: "%RESPONSE_CODE_DETAILS%"
          flags: "%RESPONSE_FLAGS%"
          milliseconds: "%DURATION%"
          first_byte_milliseconds: "%COMMON_DURATION(DS_RX_BEG:US_RX_BODY_BEG:ms)%"
          prompt_tokens: "%DYNAMIC_METADATA(hive:prompt_tokens)%"
          completion_tokens: "%DYNAMIC_METADATA(hive:completion_tokens)%"
          received_bytes: "%BYTES_RECEIVED%"
          sent_bytes: "%BYTES_SENT%"
          replica: "%UPSTREAM_HOST%"
          request: "%REQ(X-REQUEST-ID)%"
          from: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"
  - name: metrics
    {{- if .Values.gateway.page }}
    filter: {and_filter: {filters: [{not_health_check_filter: {}}, *asked]}}
    {{- else }}
    filter: {not_health_check_filter: {}}
    {{- end }}
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.access_loggers.stats.v3.Config
      stats_scope: {prefix: hive}
      counters:
        - stat: {{ include "hive.envoy.stat" (dict "name" "requests" "code" true) }}
          value_fixed: 1
        {{- range $name := list "prompt_tokens" "completion_tokens" }}
        - stat: {{ include "hive.envoy.stat" (dict "name" $name) }}
          value_format: "%DYNAMIC_METADATA(hive:{{ $name }})%"
        {{- end }}
      histograms:
        - stat: {{ include "hive.envoy.stat" (dict "name" "first_byte_milliseconds") }}
          unit: Milliseconds
          value_format: "%COMMON_DURATION(DS_RX_BEG:US_RX_BODY_BEG:ms)%"
        - stat: {{ include "hive.envoy.stat" (dict "name" "answer_milliseconds") }}
          unit: Milliseconds
          value_format: "%COMMON_DURATION(US_RX_BODY_BEG:US_RX_END:ms)%"
        - stat: {{ include "hive.envoy.stat" (dict "name" "request_milliseconds") }}
          unit: Milliseconds
          value_format: "%DURATION%"
{{- end }}

{{/* One of the gateway's own answers, by its status or by why it came about. OpenAI's clients send again whatever is 500
or more, unless x-should-retry says otherwise. */}}
{{- define "hive.envoy.reply" -}}
{{- $filters := list -}}
{{- with .status -}}
  {{- $value := dict "default_value" . "runtime_key" (printf "hive.reply.%d" .) -}}
  {{- $filters = append $filters (dict "status_code_filter" (dict "comparison" (dict "op" "EQ" "value" $value))) -}}
{{- end -}}
{{- with .flags -}}
  {{- $filters = append $filters (dict "response_flag_filter" (dict "flags" .)) -}}
{{- end -}}
{{- with .client -}}
  {{- $filters = append $filters (dict "header_filter" (dict "header" (dict "name" "x-hive-client" "string_match" (dict "exact" .)))) -}}
{{- end -}}
- filter: {{ eq (len $filters) 1 | ternary (first $filters) (dict "and_filter" (dict "filters" $filters)) | toJson }}
  {{- with .answer }}
  status_code: {{ . }}
  {{- end }}
  body_format_override:
    content_type: application/json
    json_format: {{ include "hive.envoy.error" . }}
  {{- with .header }}
  headers_to_add: [{header: {key: {{ first . }}, value: {{ last . | quote }}}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}]
  {{- end }}
{{- end }}

{{/* Rules for the parts of an answer's usage: as in chats, in responses, and in the last event of a streamed response. */}}
{{- define "hive.envoy.usage" -}}
{{- $form := . -}}
{{- range list
  (list "prompt_tokens" "usage" "prompt_tokens") (list "completion_tokens" "usage" "completion_tokens")
  (list "prompt_tokens" "usage" "input_tokens") (list "completion_tokens" "usage" "output_tokens")
  (list "prompt_tokens" "response" "usage" "input_tokens") (list "completion_tokens" "response" "usage" "output_tokens")
-}}
{{- $selectors := list -}}
{{- range rest . -}}
  {{- $selectors = append $selectors (dict "key" .) -}}
{{- end }}
- {{ printf $form (toJson $selectors) (dict "metadata_namespace" "hive" "key" (first .) | toJson) }}
{{- end }}
{{- end }}

{{- define "hive.envoy.stat" -}}
{{- $tags := list (dict "name" "model" "value_format" "%ROUTE_NAME%") (dict "name" "client" "value_format" "%REQ(X-HIVE-CLIENT)%") -}}
{{- if .code -}}
  {{- $tags = append $tags (dict "name" "code" "value_format" "%RESPONSE_CODE%") -}}
{{- end -}}
{{- dict "name" .name "tags" $tags | toJson -}}
{{- end }}

{{/* Routes: what a request asks for, by its path or its body, and what is answered here. They are tried one after the
other, so what every request passes compares plain strings; the API's paths are compared once, in the first. What stands
in a loop stands twice for each model in a ConfigMap, which ends at 1 MiB. */}}
{{- define "hive.envoy.routes" -}}
{{- $api := include "hive.envoy.api" . -}}
{{- $names := include "hive.names" . | fromJson -}}
{{- $known := keys $names | sortAlpha | join ", " | default "none" -}}
resources:
  - "@type": type.googleapis.com/envoy.config.route.v3.RouteConfiguration
    name: gateway
    virtual_hosts:
      - name: gateway
        domains: ["*"]
        # Only where no replica has seen the request: one that killed an engine must not kill the next.
        retry_policy:
          retry_on: connect-failure,refused-stream,reset-before-request
          num_retries: 3
          host_selection_retry_max_attempts: 3
          retry_host_predicate:
            - name: previous
              typed_config: {"@type": type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate}
        routes:
          - match: {path: /v1/models}
            route: {cluster: _discovery}
          - match: {prefix: /v1/models/}
            route: {cluster: _discovery}
          {{- range include "hive.envoy.page" . | fromJsonArray }}
          - match: {path: {{ . }}, headers: [{name: ":method", string_match: {exact: GET}}]}
            route: {cluster: _discovery}
            {{- if $.Values.gateway.keysSecret }}
            typed_per_filter_config:
              keys: {"@type": type.googleapis.com/envoy.config.route.v3.FilterConfig, disabled: true}
            {{- end }}
          {{- end }}
          - match:
              prefix: /
              headers:
                - name: ":path"
                  invert_match: true
                  string_match: {safe_regex: {regex: {{ printf "(/models/[^/]+)?/(%s)([?].*)?|/models/[^/]+/v1/(models(/.*)?|responses/.*)([?].*)?" $api | quote }}}}
            {{- include "hive.envoy.unknownUrl" . | nindent 12 }}
          {{- range $model, $_ := $names }}
          - match: {prefix: /models/{{ $model }}/}
            {{- include "hive.envoy.toModel" (dict "root" $ "model" $model) | nindent 12 }}
          {{- end }}
          - match: {prefix: /models/}
            {{- include "hive.envoy.unknownUrl" . | nindent 12 }}
          {{- range $model, $aliases := $names }}
          - match:
              prefix: /
              dynamic_metadata: [{filter: hive, path: [{key: model}], value: {{ include "hive.envoy.oneOf" $aliases }}}]
            {{- include "hive.envoy.toModel" (dict "root" $ "model" $model) | nindent 12 }}
          {{- end }}
          - match:
              prefix: /
              dynamic_metadata: [{filter: hive, path: [{key: model}], value: {present_match: true}}]
            direct_response:
              status: 404
              body_format:
                content_type: application/json
                json_format:
                  error:
                    message: "The model `%DYNAMIC_METADATA(hive:model)%` does not exist. The models are: {{ $known }}"
                    type: invalid_request_error
                    param: model
                    code: model_not_found
          - match: {prefix: /}
            direct_response:
              status: 400
              body: {inline_string: {{ include "hive.envoy.error" (dict "message" "You must send a `model` parameter, in a JSON body with Content-Type: application/json or in a form" "type" "invalid_request_error" "param" "model" "code" nil) | quote }}}
            response_headers_to_add: [{header: {key: content-type, value: application/json}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}]
{{- end }}

{{/* To the replicas of a model: (dict "root" $ "model" "name"). */}}
{{- define "hive.envoy.toModel" -}}
name: {{ .model | quote }}
route:
  cluster: replicas
  metadata_match: {filter_metadata: {envoy.lb: {model: {{ .model | quote }}}}}
  {{- /* vLLM has some paths outside /v1, where a client with a base URL looks for them. */}}
  regex_rewrite:
    pattern: {regex: "^(?:/models/{{ .model }})?/(?:v1/(tokenize|detokenize|pooling|classify)|(.*))$"}
    substitution: /models/{{ .model }}/\1\2
  timeout: 0s
{{- with include "hive.envoy.allowed" . }}
{{ . }}
{{- end }}
{{- end }}

{{- define "hive.envoy.unknownUrl" -}}
direct_response:
  status: 404
  body_format:
    content_type: application/json
    json_format:
      error:
        message: "There is no %REQ(:METHOD)% %PATH(NQ)% here. The API is OpenAI's, under /v1"
        type: invalid_request_error
        param: null
        code: unknown_url
{{- end }}

{{/* Envoy wants at least two alternatives where it takes any. */}}
{{- define "hive.envoy.oneOf" -}}
{{- $matchers := list -}}
{{- range . -}}
  {{- $matchers = append $matchers (dict "string_match" (dict "exact" .)) -}}
{{- end -}}
{{- eq (len $matchers) 1 | ternary (first $matchers) (dict "or_match" (dict "value_matchers" $matchers)) | toJson -}}
{{- end }}

{{/* For a model that some clients may not use: everybody but them. Nothing where all may. */}}
{{- define "hive.envoy.allowed" -}}
{{- $kept := list -}}
{{- range $client, $may := .root.Values.gateway.clients -}}
  {{- if and (hasKey $may "models") (not (has $.model $may.models)) -}}
    {{- $kept = append $kept (dict "header" (dict "name" "x-hive-client" "string_match" (dict "exact" $client))) -}}
  {{- end -}}
{{- end -}}
{{- with $kept -}}
typed_per_filter_config:
  envoy.filters.http.rbac:
    "@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBACPerRoute
    rbac:
      rules:
        action: DENY
        policies:
          kept: {permissions: [{any: true}], principals: {{ toJson . }}}
{{- end -}}
{{- end }}

{{/* What `gateway.discovery` has to know: names of the models, and what clients may use. */}}
{{- define "hive.gatewayConfig" -}}
{{- $allowed := dict -}}
{{- range $client, $may := .Values.gateway.clients -}}
  {{- if hasKey $may "models" -}}
    {{- $_ := set $allowed $client $may.models -}}
  {{- end -}}
{{- end -}}
{{- dict "models" (include "hive.names" . | fromJson) "allowed" $allowed | toJson -}}
{{- end }}
