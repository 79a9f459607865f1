package ansible_rulebook_ha;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.stream.Collectors;

import org.drools.ansible.rulebook.integration.api.domain.RuleMatch;
import org.drools.ansible.rulebook.integration.api.rulesmodel.RulesModelUtil;
import org.drools.ansible.rulebook.integration.ha.api.HAEncryption;
import org.kie.api.runtime.rule.Match;

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

    private static final char SEPARATOR = '\u001e';

    private final Map<Long, Session> sessions = new ConcurrentHashMap<>();
    private HAEncryption encryption;

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
        Session session = get(id);
        Answer answer = new Answer();
        session.advance(now, answer::add);
        session.event(event, answer::add);
        return answer.of(session);
    }

    public String assertFact(long id, long now, String fact) {
        Session session = get(id);
        Answer answer = new Answer();
        session.advance(now, answer::add);
        session.fact(fact, answer::add);
        return answer.of(session);
    }

    public String retract(
            long id, long now, String fact, boolean partial, String[] but) {
        Session session = get(id);
        Answer answer = new Answer();
        session.advance(now, answer::add);
        session.retract(fact, partial, but, answer::add);
        return answer.of(session);
    }

    public String advance(long id, long now) {
        Session session = get(id);
        Answer answer = new Answer();
        session.advance(now, answer::add);
        return answer.of(session);
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

    /** What a call returns. */
    private final class Answer {
        private int matches;
        private final StringBuilder text = new StringBuilder();

        void add(Match match, long time) {
            matches++;
            RuleMatch.asList(List.of(match)).get(0).forEach((rule, data) -> {
                text.append(Json.text(rule)).append(SEPARATOR);
                text.append(time).append(SEPARATOR);
                text.append(Json.text(data)).append(SEPARATOR);
            });
        }

        String of(Session session) {
            if (matches == 0 && !session.recorder().hasChanges()) {
                return null;
            }
            session.recorder().drain().forEach((number, record) -> {
                text.append(number).append(SEPARATOR);
                if (record == null) {
                    text.append('-').append(SEPARATOR);
                    return;
                }
                Kept kept = session.kept(record);
                text.append(kept.kind()).append(SEPARATOR);
                text.append(kept.insertedAt()).append(SEPARATOR);
                text.append(kept.expires()).append(SEPARATOR);
                text.append(encrypted(kept.text())).append(SEPARATOR);
            });
            return matches + "\u001e" + text;
        }
    }
}
