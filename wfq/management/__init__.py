"""Managing instances, for both clients: sessions, and the verbs as steps that either runs."""
