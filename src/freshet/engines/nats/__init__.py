"""The engine over NATS: logs in JetStream."""
