package ansible_rulebook_ha;

/**
 * A record as it is stored.
 *
 * @param number rises in the order of insertion, within its ruleset
 * @param kind see {@link Recorder.Record#kind}
 * @param insertedAt milliseconds since 1970
 * @param expires milliseconds from the insertion on; -1 if that is not its own
 * @param text JSON
 */
record Kept(
        long number, char kind, long insertedAt, long expires, String text) {
}
