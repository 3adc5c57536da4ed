"""Durable publish-subscribe for zerorpc services."""
