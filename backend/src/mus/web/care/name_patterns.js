// Patterns for files' names (docs/editing.md) that people often want.
export const NAME_PATTERNS = [
  "{album_artist}/{album}[ ({year})]/{track:02} - {title}",
  "{album_artist}/{album}[ ({year})]/[{disc}-]{track:02} - {title}",
  "{album_artist}/{year} - {album}/{track:02} {title}",
  "{artist} - {title}",
];
