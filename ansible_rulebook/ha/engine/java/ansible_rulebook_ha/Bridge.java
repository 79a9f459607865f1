package ansible_rulebook_ha;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.Consumer;
import java.util.stream.Collectors;

import org.drools.ansible.rulebook.integration.api.rulesmodel.RulesModelUtil;
import org.drools.ansible.rulebook.integration.ha.api.HAEncryption;

/**
 * What Python calls: sessions whose matches and changes come back at once.
 *
 * <p>A call that has nothing to tell returns null. Else it returns fields
 * that a character parts which JSON cannot contain: how many matches there
 * are, then for each its rule (JSON), the time of the session's clock
 * (milliseconds since 1970) and its data; then for each change of the working
 * memory a number, and for a record that has come or changed its kind, the
 * time of its insertion, when it expires and its text. A number alone, with
 * "-" behind it, is a record that has gone.
 */
public final class Bridge {

    static final char SEPARATOR = '\u001e';

    private final Map<Long, Session> sessions = new ConcurrentHashMap<>();
    private final Loggers loggers = new Loggers();
    private HAEncryption encryption;

    /** Drools says nothing below a warning, until it is told otherwise. */
    public void setQuiet(boolean isQuiet) {
        if (isQuiet) {
            loggers.quieten();
        } else {
            loggers.restore();
        }
    }

    /** Records are encrypted from here on; the second key may be null. */
    public void encrypt(String key, String oldKey) {
        encryption = new HAEncryption(key, oldKey);
    }

    public String encrypted(String text) {
        return encryption == null ? text : encryption.encrypt(text);
    }

    /** @throws IllegalStateException if there is no key for it */
    public String decrypted(String text) {
        if (encryption != null) {
            return encryption.decrypt(text).plaintext();
        }
        if (HAEncryption.isEncrypted(text)) {
            throw new IllegalStateException(
                "the stored state is encrypted, and there is no key for it");
        }
        return text;
    }

    public long create(String ruleset) {
        Session session = Session.of(ruleset);
        sessions.put(session.getId(), session);
        return session.getId();
    }

    public String dispose(long id) {
        Session session = sessions.remove(id);
        return session == null ? null : Json.text(session.dispose());
    }

    /** Null for a session that is gone. */
    public String stats(long id) {
        Session session = sessions.get(id);
        return session == null ? null : Json.text(session.getSessionStats());
    }

    public String facts(long id) {
        return Json.text(
            get(id).getAllFactsAsMap().stream()
                .map(RulesModelUtil::factToMap)
                .collect(Collectors.toList()));
    }

    public String assertEvent(long id, long now, String event) {
        return call(id, now, session -> session.event(event));
    }

    public String assertFact(long id, long now, String fact) {
        return call(id, now, session -> session.fact(fact));
    }

    public String retract(
            long id, long now, String fact, boolean partial, String[] but) {
        return call(
            id, now, session -> session.retract(fact, partial, but));
    }

    public String advance(long id, long now) {
        return call(id, now, session -> { });
    }

    // What is found before Drools refuses something comes with what the next
    // call returns.
    private String call(long id, long now, Consumer<Session> what) {
        Session session = get(id);
        session.advance(now);
        what.accept(session);
        Recorder recorder = session.recorder();
        if (session.matches().isEmpty() && !recorder.hasChanges()) {
            return null;
        }
        StringBuilder changes = new StringBuilder();
        recorder.changes().forEach((number, record) -> {
            changes.append(number).append(SEPARATOR);
            if (record == null) {
                changes.append('-').append(SEPARATOR);
                return;
            }
            Kept kept = session.kept(record);
            changes.append(kept.kind()).append(SEPARATOR);
            changes.append(kept.insertedAt()).append(SEPARATOR);
            changes.append(kept.expires()).append(SEPARATOR);
            changes.append(encrypted(kept.text())).append(SEPARATOR);
        });
        recorder.drain();
        return session.matches().drain() + changes;
    }

    /** What the session's clock shows, in milliseconds since 1970. */
    public long time(long id) {
        return get(id).time();
    }

    /** How many objects are in the working memory. */
    public int retained(long id) {
        return get(id).recorder().size();
    }

    /**
     * Puts records back into an empty session, and nothing follows from them.
     *
     * <p>To be called for a session that has ever told anything, even if
     * nothing of it is kept: what matches an empty memory has matched then.
     *
     * @param records number, kind, insertion, expiry and text of each, in
     *     the order of their numbers, as they were returned
     */
    public void restore(long id, String records) {
        List<Kept> kept = new ArrayList<>();
        int place = 0;
        String[] fields = new String[5];
        while (place < records.length()) {
            for (int field = 0; field < fields.length; field++) {
                int end = records.indexOf(SEPARATOR, place);
                fields[field] = records.substring(place, end);
                place = end + 1;
            }
            kept.add(new Kept(
                Long.parseLong(fields[0]), fields[1].charAt(0),
                Long.parseLong(fields[2]), Long.parseLong(fields[3]),
                decrypted(fields[4])));
        }
        get(id).restore(kept);
    }

    private Session get(long id) {
        Session session = sessions.get(id);
        if (session == null) {
            throw new IllegalArgumentException("no session " + id);
        }
        return session;
    }
}
