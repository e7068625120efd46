"""The demo: the whole path from an ECG to a result in the cloud."""
