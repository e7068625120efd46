"""einthoven_conversion."""
