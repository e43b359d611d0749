"""Tracking, registry, promotion and tuning."""
