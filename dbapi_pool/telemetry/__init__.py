"""What pools do, for those who watch them: `otel` (OpenTelemetry), `prometheus`, and `grafana.json`,
a dashboard over the latter.

Each needs its extra (`dbapi-pool[otel]`, `dbapi-pool[prometheus]`), and nothing here is imported before
it is asked for. All of it must use the public face of the package alone, as anybody could.
"""
