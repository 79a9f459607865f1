package ansible_rulebook_ha;

import java.util.List;

import org.drools.ansible.rulebook.integration.api.domain.RuleMatch;
import org.kie.api.runtime.rule.Match;

/** Matches that have not been told yet, as text: their events may change. */
final class Matches {

    private int count;
    private final StringBuilder text = new StringBuilder();

    void add(Match match, long time) {
        count++;
        RuleMatch.asList(List.of(match)).get(0).forEach((rule, data) -> {
            text.append(Json.text(rule)).append(Bridge.SEPARATOR);
            text.append(time).append(Bridge.SEPARATOR);
            text.append(Json.text(data)).append(Bridge.SEPARATOR);
        });
    }

    boolean isEmpty() {
        return count == 0;
    }

    void clear() {
        count = 0;
        text.setLength(0);
    }

    /** How many there are, and then each. */
    String drain() {
        String drained = "" + count + Bridge.SEPARATOR + text;
        clear();
        return drained;
    }
}
