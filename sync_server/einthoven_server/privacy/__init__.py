"""What patients may ask for (GDPR chapter III), and what a controller has to show."""
