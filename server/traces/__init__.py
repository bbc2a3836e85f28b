"""Traces for OpenTelemetry, where they are asked for: nothing else imports this package, nor what it needs."""
