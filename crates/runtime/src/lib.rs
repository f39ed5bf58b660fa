//! What every process needs: telemetry, health, shutdown, retry.
