'use strict';

// Calls of a handler that have not ended when they returned.

const { Context } = require('./context.js');

class Calls {
  #all = [];

  add(context) {
    Context.place(context, this.#all.length);
    this.#all.push(context);
  }

  // The last one takes its place.
  remove(context) {
    const last = this.#all.pop();
    if (last === context) return;
    const place = Context.placeOf(context);
    Context.place(last, place);
    this.#all[place] = last;
  }

  find(number) {
    return this.#all.find((context) => Context.numberOf(context) === number);
  }

  every(isSo) {
    return this.#all.every((context) => isSo(Context.numberOf(context)));
  }
}

module.exports = { Calls };
