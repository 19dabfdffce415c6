/* libmq: an embedded, persistent message queue. One directory is a broker; no server, no database.
 *
 *   #include <libmq.h>                                      link with -lmq
 *
 *   libmq_broker *broker = NULL;
 *   libmq_broker_open("queue-data", NULL, &broker, NULL);
 *   libmq_message order = LIBMQ_MESSAGE_INIT;
 *   order.body = "3 books", order.body_len = 7;
 *   libmq_enqueue(broker, "orders", &order, NULL, NULL);    (durable when it returns)
 *   libmq_broker_close(broker, 5000, NULL);
 *   libmq_broker_free(broker);
 *
 * Conventions, said once:
 *
 * STATUS    A function that can fail answers LIBMQ_OK or a negative LIBMQ_E_... Its last argument `err` may be NULL; else
 *           *err becomes an error to read and free, or NULL when all went well. It is not read: an error that it held
 *           before is to be freed before. A misaligned `err` is as good as NULL. What each call answers stands with it;
 *           beside that every call answers LIBMQ_E_BAD_HANDLE, LIBMQ_E_INVALID for a NULL or misaligned address where there
 *           must be one, LIBMQ_E_FORKED in a forked child, LIBMQ_E_NO_MEMORY, and LIBMQ_E_PANIC for a bug that was caught.
 *
 * HANDLES   A libmq_broker *, and every other pointer to a type without fields, is a number of 64 bits and no address: libmq
 *           is for machines of 64 bits. One that is NULL, was freed, belongs to another type, or was made up is
 *           LIBMQ_E_BAD_HANDLE, or the NULL, 0 or -1 of a function that answers a value. It is checked before the other
 *           arguments. The caller frees what a call gave in `out`, in any order; freeing it again, or NULL, does nothing.
 *           With LIBMQ_LEAKS in its environment a program says on stderr, when it exits, how many of each type are left.
 *
 * OUTPUTS   On failure, whatever it is of, an output says that there is nothing: a handle or string is NULL, a number 0, a
 *           descriptor -1, a receipt and metrics empty. What lies in an array beyond the number that came is left alone.
 *
 * OWNERSHIP What is passed in is copied before the call returns, except the `ctx` of a callback, which lives as long as that
 *           may be called. What an accessor points to belongs to its handle. A string that a call made (`char **`) is
 *           freed with libmq_string_free.
 *
 * THREADS   "Any thread" means also at the same time, on the same handle. Reading a delivery while another thread settles
 *           it is answered, but what was read before is gone. Callbacks come on threads of the broker; in them everything
 *           may be called but what waits for callbacks, of this broker or of another one, whose callbacks may wait for this
 *           one: that is LIBMQ_E_DEADLOCK. No C++ exception and no longjmp may leave one, and no pthread_exit(). No thread
 *           may be cancelled by pthread_cancel() in a call: the process is aborted then, or it waits on. A callback has a
 *           stack of 2 MiB, whatever the limits of the process are.
 *
 * FORKS     A child of fork() has copies of errors, options and lists of dead letters, and may use those, and open brokers of
 *           its own. Its parent's brokers and deliveries are LIBMQ_E_FORKED there, and freeing them does nothing. A child
 *           forked in a callback has to end in there, by _exit() or exec(): one that returns from the callback is aborted.
 *
 * TEXT      Strings are UTF-8 and end in NUL; bodies are an address and a length, may hold anything, and end in nothing: "%.*s"
 *           prints one. A queue's name is 1 to 128 of A-Z a-z 0-9 . _ - and there are 10,000 at most: what would make one
 *           more is LIBMQ_E_INVALID. A key, a group, a correlation id and a content type have no control characters.
 *
 * STRUCTS   Begin with the initialiser, which sets struct_size to the struct's size. Later versions add fields at the end,
 *           where 0 means what leaving them out did. So a program that was compiled with an older header goes on working;
 *           one with a newer header does where it leaves 0 what this library does not know, and is told
 *           LIBMQ_E_UNSUPPORTED where it does not. A size below that of the first version, above 4,096, or of no whole
 *           fields is LIBMQ_E_INVALID. A field left 0 is its default; where zero or none is wanted, and is not the default,
 *           LIBMQ_NONE says so.
 *
 * TIME      Milliseconds, as int64_t, up to ten years, 316,224,000,000. In `timeout_ms`, as long as a call waits, it may be
 *           more, and -1 is for ever. A signal ends no wait.
 *
 * Names and numbers here never change their meaning. Made from ffi/src, section by section; do not edit.
 */
