"""All that knows Redis: keys, scripts, links, and the embedded server."""
