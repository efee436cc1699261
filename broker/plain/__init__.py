"""A broker without a group: one master on a plain commitlog in upstream's layout."""
