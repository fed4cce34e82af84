//! What templates become.

use russet_plugin::template::TemplateRequestBuilder;
use russet_plugin::{Device, Person};

use super::*;

fn request(body: &str) -> TemplateRequestBuilder {
    let device = Device::builder()
        .serial_number("C02XK1")
        .device_name("Ada's <Mac> & \"more\"")
        .attribute("site", "hq")
        .build();
    let ada = Person::builder("uid=ada", "ada")
        .email("ada@example.org")
        .group("staff")
        .attribute("department", "7")
        .build();
    TemplateRequest::builder(format!("<plist version=\"1.0\">\n{body}\n</plist>"))
        .device(device)
        .person(ada)
        .variables(r#"{"ssid": "Office", "channels": [1, 6]}"#)
}

fn rendered(request: TemplateRequestBuilder) -> Result<String, String> {
    let settings = Map::from_iter([("domain".to_owned(), Value::from("example.org"))]);
    let profile = Jinja::render(settings, &request.build()).map_err(|error| error.to_string())?;
    let profile = String::from_utf8(profile).unwrap();
    let body = profile.strip_prefix("<plist version=\"1.0\">\n").unwrap();
    Ok(body.strip_suffix("\n</plist>").unwrap().to_owned())
}

#[test]
fn values_of_all_sources() {
    let body = "{{ device.serial_number }} {{ device.attributes.site }} {{ person.email }} {{ person.groups[0] }} \
                {{ person.attributes.department[0] }} {{ settings.domain }} {{ vars.ssid }} {{ tenant }}";
    assert_eq!(
        rendered(request(body)).as_deref(),
        Ok("C02XK1 hq ada@example.org staff 7 example.org Office default")
    );
}

#[test]
fn loops_and_conditions() {
    let body = "{% for c in vars.channels %}<integer>{{ c }}</integer>{% endfor %}\
                {% if \"staff\" in person.groups %}<true/>{% endif %}{% if device.imei %}no{% endif %}";
    assert_eq!(
        rendered(request(body)).as_deref(),
        Ok("<integer>1</integer><integer>6</integer><true/>")
    );
}

#[test]
fn values_are_escaped_for_xml() {
    assert_eq!(
        rendered(request("{{ device.device_name }}")).as_deref(),
        Ok("Ada&#x27;s &lt;Mac&gt; &amp; &quot;more&quot;")
    );
}

#[test]
fn filters_and_tests() {
    let body = "{{ vars.ssid | upper }} {{ vars.channels | join(\"/\") }} {{ person.groups | length }} \
                {% if device.serial_number is startingwith \"C02\" %}ours{% endif %} {{ \" a-b \" | trim | replace(\"-\", \"+\") }}";
    assert_eq!(rendered(request(body)).as_deref(), Ok("OFFICE 1&#x2f;6 1 ours a+b"));
}

#[test]
fn escaping_ends_only_where_the_template_says_so() {
    assert!(
        rendered(request("{{ device.device_name | safe }}")).is_err(),
        "no filter of that name"
    );
    assert_eq!(
        rendered(request("{{ device.device_name | e | lower }}")),
        rendered(request("{{ device.device_name | lower | e }}"))
    );
    let body = "{% autoescape false %}{{ vars.fragment }}{% endautoescape %}";
    let fragment = request(body).variables(r#"{"fragment": "<true/>"}"#);
    assert_eq!(rendered(fragment).as_deref(), Ok("<true/>"));
}

#[test]
fn what_is_not_known_is_named() {
    for (body, expected) in [
        ("{{ device.imei }}", "line 2: `device.imei` is not known"),
        ("{{ device.imie }}", "`device.imie` is not known"),
        ("{{ var.ssid }}", "`var.ssid` is not known"),
        ("{{ nobody }}", "`nobody` is not known"),
    ] {
        let error = rendered(request(body)).unwrap_err();
        assert!(error.contains(expected), "{body}: {error}");
    }
    assert_eq!(
        rendered(request("{{ device.imei | default(\"none\") }}")).as_deref(),
        Ok("none")
    );
}

#[test]
fn without_a_person_there_is_none() {
    let nobody = |body| TemplateRequest::builder(format!("<plist version=\"1.0\">\n{body}\n</plist>"));
    assert_eq!(
        rendered(nobody("{% if person %}x{% else %}nobody{% endif %}")).as_deref(),
        Ok("nobody")
    );
    assert!(
        rendered(nobody("{{ person.email }}"))
            .unwrap_err()
            .contains("`person.email` is not known")
    );
}

#[test]
fn templates_read_no_other_templates() {
    for body in [
        "{% include \"other\" %}",
        "{% extends \"other\" %}",
        "{% import \"other\" as o %}",
    ] {
        let error = rendered(request(body)).unwrap_err();
        assert!(error.contains("template line 2"), "{body}: {error}");
    }
}

#[test]
fn a_template_without_end_runs_out_of_fuel() {
    let error = rendered(request(
        "{% for a in range(9999) %}{% for b in range(9999) %}{{ a }}{% endfor %}{% endfor %}",
    ))
    .unwrap_err();
    assert!(error.contains("computes for too long"), "{error}");
}

#[test]
fn mistakes_in_the_template_name_their_line() {
    let error = rendered(request("{{ device.serial_number")).unwrap_err();
    assert!(error.starts_with("template line "), "{error}");
    let error = rendered(request("{{ vars.ssid | nofilter }}")).unwrap_err();
    assert!(error.starts_with("template line 2"), "{error}");
}

#[test]
fn the_result_has_to_look_like_a_property_list() {
    for template in [
        "",
        "hello",
        "{\"a\": 1}",
        "<plist><dict>",
        "<?xml version=\"1.0\"?><html></html>",
    ] {
        let error = Jinja::render(Map::new(), &TemplateRequest::builder(template).build()).unwrap_err();
        assert!(
            error.to_string().contains("no XML property list"),
            "{template}: {error}"
        );
    }
    let whole =
        "\n<?xml version=\"1.0\"?>\n<!DOCTYPE plist PUBLIC \"x\" \"y\">\n<plist version=\"1.0\"><dict/></plist>\n";
    assert!(Jinja::render(Map::new(), &TemplateRequest::builder(whole).build()).is_ok());
}

#[test]
fn characters_that_xml_does_not_allow_are_refused() {
    let odd = Device::builder().device_name("bell\u{7}").build();
    let error = rendered(request("{{ device.device_name }}").device(odd)).unwrap_err();
    assert!(error.contains("line 2 of the rendered profile"), "{error}");
    assert!(!error.contains("bell"), "values are not shown: {error}");
}

#[test]
fn variables_have_to_be_an_object() {
    let error = rendered(request("").variables("[1]")).unwrap_err();
    assert!(error.contains("variables are no JSON object"), "{error}");
}
