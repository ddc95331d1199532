from mus.broker import lazy_beartype

# Before anything here imports streaQ, and that coredis.
lazy_beartype.put_off()
