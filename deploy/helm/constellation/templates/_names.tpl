{{- define "constellation.labels" -}}
app.kubernetes.io/name: constellation
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "constellation.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "constellation.scheme" -}}
{{ if .Values.tls.secret }}HTTPS{{ else }}HTTP{{ end }}
{{- end }}

{{/* What the gRPC port speaks, for whoever passes it on. */}}
{{- define "constellation.grpcProtocol" -}}
{{ if .Values.tls.secret }}https{{ else }}kubernetes.io/h2c{{ end }}
{{- end }}

{{- define "constellation.domain" -}}
{{ required "domain: the name that TVs come to" .Values.domain }}
{{- end }}

{{/* Who may do what in a container: nothing that a shard does not need. */}}
{{- define "constellation.security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "constellation.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* numba wants to write beside compiled kernels, and the image cannot be written: they are copied where it can. */}}
{{- define "constellation.kernels" -}}
- name: kernels
  image: {{ include "constellation.image" . }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  command: [/bin/sh, -c, 'if [ -d /opt/constellation/kernels ]; then cp -a /opt/constellation/kernels/. /kernels/; fi']
  securityContext: {{- include "constellation.security" . | nindent 4 }}
  volumeMounts:
    - {name: kernels, mountPath: /kernels}
{{- end }}

{{- define "constellation.database" -}}
- name: DATABASE_USER
  valueFrom: {secretKeyRef: {name: {{ .Values.database.secret }}, key: username}}
- name: DATABASE_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ .Values.database.secret }}, key: password}}
- name: CONSTELLATION_COORDINATOR_URL
  value: postgresql://$(DATABASE_USER):$(DATABASE_PASSWORD)@{{ required "database.hosts: host:port of PostgreSQL, several with commas" .Values.database.hosts }}/{{ .Values.database.coordinator }}
{{- end }}

{{- define "constellation.common" -}}
- {name: CONSTELLATION_HOST, value: 0.0.0.0}
- {name: CONSTELLATION_LOG_KEY_FILE, value: /secrets/log/log-key}
- {name: CONSTELLATION_OTLP_ENDPOINT, value: {{ .Values.tracing.endpoint | quote }}}
- {name: NUMBA_CACHE_DIR, value: /kernels}
{{- end }}
