// Templates without a build: htm reads the markup, preact keeps it in step. A value always becomes text.
import { h } from "preact";
import htm from "htm";

export const html = htm.bind(h);
