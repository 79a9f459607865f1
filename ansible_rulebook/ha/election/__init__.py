"""Who leads: knows neither rules nor upstream."""
