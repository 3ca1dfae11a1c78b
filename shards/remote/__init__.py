"""Shards that are on a server or in a bucket: fetched into a cache, checked, and read from there."""
