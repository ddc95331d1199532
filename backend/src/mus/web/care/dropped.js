// What was dropped or picked: files with the path that they had below the folder they came in.

/** Suffixes of what mus takes for music (audio_formats.py). */
const AUDIO = /\.(mp3|flac|m4a|m4b|mp4|aac|ogg|oga|opus|spx|wav|aiff|aif|aifc|wma|ape|wv|mpc|dsf)$/i;

/** Of what lies beside music, as its cover (arrivals.py). */
const COMPANION = /\.(jpe?g|png|webp|gif|pdf|cue|log|lrc|m3u8?|nfo|txt)$/i;

const isShown = (path) => !path.split("/").some((part) => part.startsWith("."));
export const isMusic = (path) => AUDIO.test(path) && isShown(path);
export const isCompanion = (path) => COMPANION.test(path) && path.includes("/") && isShown(path);

export const hasFiles = (event) => event.dataTransfer?.types.includes("Files") ?? false;

/** Of a drop: `[{path, file}]`, folders with all that is below them. Must be called while the drop is handled. */
export async function filesOfDrop(transfer) {
  // The list is emptied once the event is over: everything is taken out of it first.
  const taken = [...transfer.items].filter((item) => item.kind === "file").map((item) => ({ entry: item.webkitGetAsEntry?.(), file: item.getAsFile() }));
  const found = [];
  for (const { entry, file } of taken) {
    if (entry) await collect(entry, "", found);
    else if (file) found.push({ path: file.name, file });
  }
  return found;
}

/** Of an `<input type=file>`: with `webkitdirectory` the paths begin with the folder's name. */
export const filesOfInput = (input) => [...input.files].map((file) => ({ path: file.webkitRelativePath || file.name, file }));

async function collect(entry, above, found) {
  const path = above + entry.name;
  if (entry.isFile) {
    const file = await new Promise((resolve) => entry.file(resolve, () => resolve(null)));
    if (file) found.push({ path, file });
    return;
  }
  const reader = entry.createReader();
  // It gives a hundred at a time, and none at the end.
  for (;;) {
    const entries = await new Promise((resolve) => reader.readEntries(resolve, () => resolve([])));
    if (!entries.length) return;
    for (const each of entries) await collect(each, `${path}/`, found);
  }
}
