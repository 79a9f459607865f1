package ansible_rulebook_ha;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

import org.drools.ansible.rulebook.integration.api.rulesmodel.RulesModelUtil;
import org.kie.api.prototype.Prototype;
import org.kie.api.prototype.PrototypeFactInstance;

/**
 * What is in one of the engine's own events, as it is stored.
 *
 * <p>Beside plain values there can be events or facts that it refers to, and
 * attributes to group by that an event lacked. These are named apart, so that
 * no value that a user sends can be taken for them.
 */
final class Control {

    private static final String VALUES = "values";
    private static final String REFERENCES = "references";
    private static final String UNDEFINED = "undefined";
    // Of a reference: the number of its record, null if it has none; whether
    // it is an event; and VALUES.
    private static final String RECORD = "record";
    private static final String EVENT = "event";

    private Control() { }

    static Map<String, Object> stored(
            Map<String, Object> control, Recorder recorder) {
        Map<String, Object> values = new HashMap<>();
        Map<String, Object> references = new HashMap<>();
        List<String> undefined = new ArrayList<>();
        control.forEach((name, value) -> {
            if (value instanceof PrototypeFactInstance object) {
                references.put(name, reference(object, recorder));
            } else if (value == Prototype.UNDEFINED_VALUE) {
                undefined.add(name);
            } else {
                values.put(name, value);
            }
        });
        Map<String, Object> stored = new HashMap<>();
        stored.put(VALUES, values);
        if (!references.isEmpty()) {
            stored.put(REFERENCES, references);
        }
        if (!undefined.isEmpty()) {
            stored.put(UNDEFINED, undefined);
        }
        return stored;
    }

    private static Map<String, Object> reference(
            PrototypeFactInstance object, Recorder recorder) {
        Map<String, Object> reference = new HashMap<>();
        Recorder.Record record = recorder.of(object);
        reference.put(RECORD, record == null ? null : record.number);
        reference.put(EVENT, object.isEvent());
        reference.put(VALUES, object.asMap());
        return reference;
    }

    /**
     * The reverse.
     *
     * @param objects what has been put back, by the numbers of the records
     */
    static Map<String, Object> restored(
            Map<String, Object> stored,
            Map<Long, PrototypeFactInstance> objects) {
        Map<String, Object> control = new HashMap<>(map(stored.get(VALUES)));
        map(stored.get(REFERENCES)).forEach(
            (name, value) -> control.put(name, referred(map(value), objects)));
        if (stored.get(UNDEFINED) instanceof List<?> names) {
            for (Object name : names) {
                control.put((String) name, Prototype.UNDEFINED_VALUE);
            }
        }
        return control;
    }

    // An event that a control refers to has to be the very object that is in
    // memory, if it is there: rules compare them by identity.
    private static PrototypeFactInstance referred(
            Map<String, Object> reference,
            Map<Long, PrototypeFactInstance> objects) {
        PrototypeFactInstance object = null;
        if (reference.get(RECORD) instanceof Number number) {
            object = objects.get(number.longValue());
        }
        if (object == null) {
            boolean event = Boolean.TRUE.equals(reference.get(EVENT));
            object = RulesModelUtil.mapToFact(
                map(reference.get(VALUES)), event);
        }
        return object;
    }

    @SuppressWarnings("unchecked")
    private static Map<String, Object> map(Object value) {
        return value == null ? Map.of() : (Map<String, Object>) value;
    }
}
