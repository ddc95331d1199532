from mus.library.tag_values import RawTags

# Raw tags, format, seconds, kbit/s, sample rate, channels, and whether there is a cover. None for a file that is
# not plain: the libraries read it, or `tag_reader` says what is wrong.
def read_plain(descriptor: int, size: int) -> tuple[RawTags, str, float, float | None, int, int, bool] | None: ...
