{{/* A pod that runs once with rights of its own: (dict "root" $ "component" "upgrade" "command" (list ...) "env" (list ...)). */}}
{{- define "hive.release.pod" -}}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
serviceAccountName: {{ include "hive.componentName" (dict "root" .root "component" "release") }}
restartPolicy: Never
securityContext:
  runAsNonRoot: true
  runAsUser: 1000
  runAsGroup: 100
containers:
  - name: {{ .component }}
    image: {{ include "hive.image" .root }}
    imagePullPolicy: {{ .root.Values.image.pullPolicy }}
    command: {{ toJson .command }}
    securityContext:
      readOnlyRootFilesystem: true
      {{- include "hive.containerSecurity" . | nindent 6 }}
    env:
      - name: PYTHONPATH
        value: /opt/hive
      - name: HIVE_NAMESPACE
        value: {{ .root.Release.Namespace | quote }}
      - name: HIVE_RAYSERVICE
        value: {{ include "hive.fullname" .root }}
      {{- with concat .env .root.Values.extraEnv }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    resources:
      requests: {cpu: 20m, memory: 64Mi}
      limits: {memory: 256Mi}
    volumeMounts:
      - {name: tmp, mountPath: /tmp}
      {{- include "hive.codeMounts" (dict "root" .root "packages" (list "release" "gateway")) | nindent 6 }}
      {{- if .keys }}
      - {name: keys, mountPath: /keys, readOnly: true}
      {{- end }}
      {{- with .root.Values.extraVolumeMounts }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
volumes:
  - name: tmp
    emptyDir: {}
  {{- include "hive.codeVolumes" (dict "root" .root "packages" (list "release" "gateway")) | nindent 2 }}
  {{- with .keys }}
  - name: keys
    secret:
      secretName: {{ . | quote }}
      defaultMode: 288
  {{- end }}
  {{- with .root.Values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
