from mus.broker import lazy_beartype, left_out

# Before anything here imports redis, or streaQ, and that coredis.
left_out.leave_out()
lazy_beartype.put_off()
