"""Static sites: concepts, decisions and verdicts as files that any web server, or none, shows."""
