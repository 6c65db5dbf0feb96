"""Verdict, cards, forecast and alerts, made once for all viewers."""
