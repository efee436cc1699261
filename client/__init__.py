"""Producers and consumers for asyncio."""
