"""Shared and pure: octets and values in, octets and values out."""
