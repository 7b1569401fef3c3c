// What is chosen and painted lives here; the server keeps photographs and saliency only, so each request carries all of
// it, undo is a list of earlier strokes, and two tabs cannot disturb each other.

import { $ } from "/talk.js";

export const state = {
  page: null,          // what the server offers
  words: {},           // by classifier of words: the classes asked for, instead of its own
  photograph: null,    // {photograph, name, width, height, url, send}
  label: null,         // the class that is looked at; null: the best one
  strokes: {},         // by label: the strokes in order
  history: {},         // by label: the lists of strokes before this one
  undone: {},          // by label: those that were taken back
  note: "",            // what there is to say beside a result
};

export const recipe = (name) => state.page.recipes.find((each) => each.name === name);
export const classifier = () => state.page.classifiers.find((each) => each.name === $("classifier").value);
export const painted = () => Object.values(state.strokes).some((drawn) => drawn.length);
