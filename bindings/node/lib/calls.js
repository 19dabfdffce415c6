'use strict';

// Calls of a handler that have not ended when they returned.

const { Context } = require('./context.js');

class Calls {
  #all = [];

  add(context) {
    Context.place(context, this.#all.length);
    this.#all.push(context);
  }

  // The last one takes its place. Answers false if it has left before.
  remove(context) {
    const place = Context.placeOf(context);
    if (this.#all[place] !== context) return false;
    const last = this.#all.pop();
    if (last === context) return true;
    Context.place(last, place);
    this.#all[place] = last;
    return true;
  }

  find(number) {
    return this.#all.find((context) => Context.numberOf(context) === number);
  }

  every(isSo) {
    return this.#all.every((context) => isSo(Context.numberOf(context)));
  }
}

module.exports = { Calls };
