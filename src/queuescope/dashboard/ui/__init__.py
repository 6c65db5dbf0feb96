"""Widgets and states that the pages share."""
