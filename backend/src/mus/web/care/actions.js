// What a person can have done from any list; each says what it came to.
import { del, post } from "../api.js";
import { t } from "../text.js";
import { say, sayFault } from "../parts/toast.js";
import { confirm } from "../parts/dialog.js";
import { refresh } from "../resource.js";

/** Scan everything, or what `scope` (`{library, path, album, artist, mode, confirm_missing}`) names. */
export async function scan(scope = {}) {
  try {
    const { job_id } = await post("/scans", scope);
    say(t("care.scanStarted"), { job: job_id });
  } catch (error) {
    sayFault(error);
  }
}

/** Move the files of these tracks to the trash, after a question; whence they can be restored. */
export async function trashTracks(tracks) {
  const agreed = await confirm({
    title: t("care.trashTitle", { count: tracks.length }),
    text: t("care.trashText", { count: tracks.length, title: tracks[0].title }),
    yes: t("care.trashYes"),
    dangerous: true,
  });
  if (!agreed) return false;
  try {
    for (const track of tracks) await del(`/tracks/${track.id}`);
    say(t("care.trashed", { count: tracks.length }), {
      action: { label: t("common.undo"), run: () => restoreTracks(tracks) },
    });
  } catch (error) {
    sayFault(error);
  }
  refresh("/tracks", "/albums", "/trash");
  return true;
}

/** Bring their files back from the trash. */
export async function restoreTracks(tracks) {
  try {
    for (const track of tracks) await post(`/tracks/${track.id}/restore`);
    say(t("care.restored", { count: tracks.length }));
  } catch (error) {
    sayFault(error);
  }
  refresh("/tracks", "/albums", "/trash");
}
