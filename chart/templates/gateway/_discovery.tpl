{{/* The container beside Envoy that tells it where replicas are, and its first run, before Envoy starts. */}}
{{- define "hive.discoveryContainer" -}}
image: {{ include "hive.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
workingDir: /gateway
securityContext:
  readOnlyRootFilesystem: true
  {{- include "hive.containerSecurity" . | nindent 2 }}
env:
  - name: PYTHONPATH
    value: /opt/hive
  - name: HIVE_DASHBOARD_URL
    value: http://{{ include "hive.headService" . }}:{{ .Values.ports.dashboard }}
  {{- if eq .Values.ray.auth.mode "token" }}
  - name: HIVE_TOKEN_FILE
    value: /gateway/token/auth_token
  {{- end }}
  {{- if .Values.gateway.keysSecret }}
  - name: HIVE_KEYS_DIR
    value: /gateway/keys
  {{- end }}
  {{- if .Values.gateway.page }}
  - name: HIVE_AGENTS
    value: {{ include "hive.componentName" (dict "root" . "component" "agent") }}:{{ .Values.ports.agent }}
  - name: HIVE_GATEWAYS
    value: {{ include "hive.componentName" (dict "root" . "component" "gateway-metrics") }}:{{ .Values.ports.gatewayMetrics }}
  {{- end }}
  {{- with .Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
resources:
  requests: {cpu: 20m, memory: 64Mi}
  limits: {memory: 256Mi}
volumeMounts:
  {{- include "hive.codeMounts" (dict "root" . "packages" (list "gateway" "vram_agent")) | nindent 2 }}
  - {name: config, mountPath: /gateway/config, readOnly: true}
  - {name: run, mountPath: /gateway/run}
  {{- if eq .Values.ray.auth.mode "token" }}
  - {name: token, mountPath: /gateway/token, readOnly: true}
  {{- end }}
  {{- if .Values.gateway.keysSecret }}
  - {name: keys, mountPath: /gateway/keys, readOnly: true}
  {{- end }}
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* Ray's own token. The gateway has to know it, so KubeRay is not left to make one. */}}
{{- define "hive.tokenSecret" -}}
{{ .Values.ray.auth.existingSecret | default (include "hive.componentName" (dict "root" . "component" "ray-token")) }}
{{- end }}
