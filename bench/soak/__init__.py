"""A long run of one engine: does it slow down, does its memory grow?"""
